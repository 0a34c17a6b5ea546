"""Many trials and many traits in one call, on one machine or on a Dask cluster."""

from fastlmm_core.batch.folder.stored import read_batch
from fastlmm_core.batch.group import fit_group
from fastlmm_core.batch.plan import BatchPlan, make_plan
from fastlmm_core.batch.result import BatchResult
from fastlmm_core.batch.run import fit_batch
from fastlmm_core.batch.two_stages import second_stage

__all__ = ["BatchPlan", "BatchResult", "fit_batch", "fit_group", "make_plan", "read_batch", "second_stage"]
