"""What a job waits for before its first array task may run: other Slurm jobs."""

from __future__ import annotations

import re

from hpcbatch.errors import SpecError

_ONE = r"(?:after(?:any|ok|notok|corr)?(?::[0-9]{1,10}(?:_[0-9]{1,10})?(?:\+[0-9]{1,6})?)+|singleton)"
_DEPENDENCY = re.compile(rf"{_ONE}(?:,{_ONE})*\Z|{_ONE}(?:\?{_ONE})*\Z")


def checked_dependency(text: str | None, compute_kind: str) -> str:
    """*text* if sbatch may get it as `--dependency` (sbatch(1)); empty for None. Raises SpecError."""
    if not text:
        return ""
    if compute_kind != "slurm":
        raise SpecError(
            "Only jobs on Slurm can wait for other Slurm jobs; this deployment's compute is this machine.",
            hint="Leave --dependency out, or use a compute of type slurm.", field="dependency", found=text,
        )  # fmt: skip
    if not _DEPENDENCY.match(text):
        raise SpecError(
            f"{text!r} is no dependency.",
            hint="For example: --dependency afterok:123, or afterok:123:124,afterany:125",
            field="dependency", found=text,
            allowed="after|afterany|afterok|afternotok|aftercorr:JOBID[:JOBID...], singleton; joined by , or ?",
        )  # fmt: skip
    return text
