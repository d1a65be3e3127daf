"""Which of the invoker's environment variables travel with a job: an allow-list, so that no secret does by accident."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping

from hpcbatch.errors import SpecError

_NAMES = frozenset(
    ["HOME", "USER", "LOGNAME", "SHELL", "PATH", "LANG", "LANGUAGE", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "MODULEPATH",
     "MODULESHOME", "LMOD_CMD", "LMOD_DIR", "LMOD_PKG", "LOADEDMODULES", "BASH_ENV", "CONDA_PREFIX", "CUDA_HOME",
     "CUDA_PATH", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "http_proxy", "https_proxy", "no_proxy",
     "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "HF_HOME",
     "TORCH_HOME", "NLTK_DATA", "MPLCONFIGDIR"]
)  # fmt: skip
_PREFIXES = ("LC_", "OMP_", "MKL_", "OPENBLAS_", "NUMEXPR_")
_KEEP = frozenset(["SLURM_CONF"])


def travelling(names: Collection[str] = (), environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The variables of *environ* that a job is given: the list's, SLURM_CONF, and those it *names* itself."""
    return {k: v for k, v in environ.items() if k in _NAMES or k in _KEEP or k in names or k.startswith(_PREFIXES)}


def require(job: str, names: Collection[str], environ: Mapping[str, str] = os.environ) -> None:
    """Raises SpecError if one of the *names* that *job* takes along is not set."""
    if gone := sorted(name for name in names if name not in environ):
        raise SpecError(
            f"Job {job} needs {' and '.join(gone)} of the environment, as it was when it was invoked.",
            hint=f"Set it, then continue: export {gone[0]}=...; hpcbatch job resume --name {job}",
            field="environment", found=gone,
        )  # fmt: skip


def staying(names: Collection[str] = (), environ: Mapping[str, str] = os.environ) -> list[str]:
    """The names in *environ* that must not reach sbatch.

    Secrets would become readable in the job; what an enclosing Slurm job leaves behind would become options of the new
    one (sbatch(1), INPUT ENVIRONMENT VARIABLES).
    """
    return sorted(set(environ) - set(travelling(names, environ)))
