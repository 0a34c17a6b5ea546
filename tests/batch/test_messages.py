"""What `fits` and the summary of a batch say first of a trial that lacks something."""

from __future__ import annotations

from trial_data import alpha_trials

from fastlmm_core import fit_batch


def test_the_reason_of_a_status_stands_before_warnings() -> None:
    """A control that is not there is why a trial is `inference`; two spellings of a label are not."""
    frame = alpha_trials(2)
    frame["gen"] = frame["gen"].replace({"G03": "g02"})  # beside G02: a warning of every fit
    batch = fit_batch(
        frame, "yield ~ gen + (1|rep:block)", by="trial", emmeans="gen", contrasts="trt.vs.ctrl:NONE",
        progress=False,
    )  # fmt: skip
    assert (batch.fits["status"] == "inference").all()
    for message in batch.fits["message"]:
        reason, warning = message.index("NONE"), message.index("differ only in")
        assert reason < warning
    assert "NONE" in batch.summary()
