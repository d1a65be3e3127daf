"""Options of remote places: references stay references, and secrets are refused wherever they are written out."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from hpcbatch.dataio.credentials import checked_options, resolved_options, variables
from hpcbatch.errors import SpecError


def test_references_are_kept_and_looked_up_when_needed(tmp_path: Path) -> None:
    """Nested too; `true` and `false` of the command line are what they say."""
    secret = tmp_path / "secret"
    secret.write_text("from-file\n")
    secret.chmod(0o600)
    given = {
        "anon": "false", "endpoint_url": "https://minio:9000", "key": {"env": "K"}, "secret": {"file": str(secret)},
        "client_kwargs": {"region_name": "x", "aws_session_token": {"env": "T"}},
    }  # fmt: skip
    kept = checked_options(given)
    assert kept == {**given, "anon": False}
    assert variables(kept) == ["K", "T"]
    assert resolved_options(kept, {"K": "k", "T": "t"}) == {
        "anon": False, "endpoint_url": "https://minio:9000", "key": "k", "secret": "from-file",
        "client_kwargs": {"region_name": "x", "aws_session_token": "t"},
    }  # fmt: skip


@pytest.mark.parametrize(
    "options",
    [
        {"secret": "tell-nobody"}, {"key": "tell-nobody"}, {"token": "tell-nobody"}, {"sas_token": "tell-nobody"},
        {"connection_string": "tell-nobody"}, {"password": "tell-nobody"},
        {"client_kwargs": {"aws_secret_access_key": "tell-nobody"}}, {"headers": {"Authorization": "tell-nobody"}},
        {"endpoint_url": "https://me:tell-nobody@host"}, {"key": {"env": "tell-nobody with blanks"}},
    ],
)  # fmt: skip
def test_a_secret_that_is_written_out_is_refused_and_not_repeated(options: dict[str, Any]) -> None:
    with pytest.raises(SpecError) as caught:
        checked_options(options)
    assert "tell-nobody" not in str(caught.value) + str(caught.value.fields)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644])
def test_a_secret_file_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    secret = tmp_path / "secret"
    secret.write_text("x")
    secret.chmod(mode)
    with pytest.raises(SpecError, match=r"only you can read(.|\n)*chmod 600"):
        resolved_options({"secret": {"file": str(secret)}})


def test_what_a_reference_names_and_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="variable NOT_THERE"):
        resolved_options({"key": {"env": "NOT_THERE"}}, {})
    with pytest.raises(SpecError, match="No such file"):
        resolved_options({"key": {"file": str(tmp_path / "none")}})
    link = tmp_path / "link"
    os.symlink("/etc/hostname", link)
    with pytest.raises(SpecError, match="not a file that belongs to you"):
        resolved_options({"key": {"file": str(link)}})


@pytest.mark.parametrize("options", [{"a b": 1}, {"x": [1]}, {"../x": "y"}])
def test_what_is_no_option_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(SpecError):
        checked_options(options)
