"""`client.jobs`: find, list, follow and end the jobs of a workspace."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

from hpcbatch.client.collection import Collection, Finished, Listing
from hpcbatch.client.job import Job
from hpcbatch.client.pipelines import PipelineJob
from hpcbatch.client.progress import said
from hpcbatch.operations import job_notes, jobs
from hpcbatch.operations.job_create import requested_job
from hpcbatch.operations.pipelines import start_pipeline


class Jobs(Collection):
    """The jobs of a workspace."""

    def create_or_update(self, job: PipelineJob) -> Job:
        """Start the pipeline, or the command, and return at once. With a name it is never started a second time.

        Raises SpecError, NotFound, Conflict, SchedulerError; what the job was warned of is warned of here.
        """
        shown = start_pipeline(self._ws, requested_job(self._ws, file=job.loaded()), say=said)
        for each in shown.get("warnings") or ():
            warnings.warn(each, stacklevel=2)
        return Job(self._ws, shown)

    def get(self, name: str) -> Job:
        """The job *name*, whoever started it, wherever and when. Raises NotFound."""
        return Job(self._ws, jobs.show_job(self._ws, name))

    def list(
        self,
        *,
        endpoint_name: str | None = None,
        deployment_name: str | None = None,
        max_results: int = 50,
        parent_job_name: str | None = None,
    ) -> Listing[Job]:
        """The newest jobs first; or the steps of the pipeline job *parent_job_name*. For Azure ML a model deployment is
        a pipeline of one step: here that step is the job itself.
        """
        if parent_job_name is not None:
            steps = jobs.list_jobs(self._ws, parent_job_name=parent_job_name, max_results=max_results)
            return Listing(self.get(name) for name in [step["name"] for step in steps] or [parent_job_name])
        found = jobs.list_jobs(self._ws, max_results=max_results, endpoint=endpoint_name, deployment=deployment_name)
        return Listing(Job(self._ws, one) for one in found)

    def stream(self, name: str) -> Job:
        """Write the job's log to stdout as it grows, until it has ended. Raises JobError unless it is Completed."""
        return self.get(name).stream()

    def download(
        self,
        name: str,
        *,
        download_path: str | os.PathLike[str] = ".",
        output_name: str | None = None,
        all: bool = False,
    ) -> Path:
        """Copy the outputs of an ended job to `<download_path>/named-outputs/<output>/`, with *all* its logs."""
        return self.get(name).download(download_path, output_name=output_name, all=all)

    def cancel(self, name: str) -> Job:
        """End the job. What it finished stays."""
        return self.get(name).cancel()

    def begin_cancel(self, name: str) -> Finished[Job]:
        """`cancel` as Azure ML spells it."""
        return Finished(self.cancel(name))

    def resume(self, name: str) -> Job:
        """Go on with a job that stopped half-way: only what is missing runs."""
        return self.get(name).resume()

    def archive(self, name: str) -> None:
        """Leave the job out of lists; it stays, and is found by its name. Raises NotFound."""
        job_notes.archive(jobs.noted_job(self._ws, name))

    def restore(self, name: str) -> None:
        """Put an archived job back into lists."""
        job_notes.archive(jobs.noted_job(self._ws, name), archived=False)
