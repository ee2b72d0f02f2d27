"""The loop over steps and epochs, and everything that a run writes on the way.

See ``engine.py`` for what one step computes, ``batches.py`` for which clips it takes, and ``checkpoint.py`` for what is
kept for resuming.
"""

import os
import time
from functools import partial
from pathlib import Path

import torch
from accelerate.utils import gather_object
from rich.console import Console

from dynagest.clips.dataset import Batch
from dynagest.clips.workers import read_ahead
from dynagest.errors import DivergedError, DynagestError, TrainingError, first_line
from dynagest.training.batches import BatchPlan, in_order, planned
from dynagest.training.checkpoint import Best, Checkpoint, Progress, save_checkpoint
from dynagest.training.data import TrainingData, build_loader, choose_workers
from dynagest.training.display import Display
from dynagest.training.engine import Agreement, Engine
from dynagest.training.folder import keep_network, resuming
from dynagest.training.interrupt import Interrupts, TrainingInterrupted
from dynagest.training.log import RunLog
from dynagest.training.schedule import learning_rate
from dynagest.training.sums import Sums
from dynagest.training.unreadable import UnreadableClips

LINE_SECONDS = 5.0  # without a terminal, at most one line of progress in this time
_ONE_VALUE = "Expected more than 1 value per channel when training"  # how torch's BatchNorm begins its ValueError


class Loop:
    """Runs the steps and epochs of one training and writes its logs and checkpoints. Each process has one."""

    def __init__(
        self,
        engine: Engine,
        data: TrainingData,
        plan: BatchPlan,
        run_dir: Path,
        progress: Progress,
        interrupts: Interrupts,
        console: Console | None,
        home: Path,
    ) -> None:
        """``home`` is the folder that a user would resume: that of the whole run, also where this is a stage of it."""
        self.engine, self.data, self.run_dir, self.home, self.progress = engine, data, run_dir, home, progress
        self.recipe, self.accelerator, self.interrupts = engine.recipe, engine.accelerator, interrupts
        self.main = self.accelerator.is_main_process
        self.fed_depth = self.recipe.inputs != "rgb"
        self.deciding = next(iter(engine.task.terms))
        self.plan, self.epoch_steps = plan, plan.steps_per_epoch
        self.total = self.epoch_steps * self.recipe.epochs
        self.sums = Sums.of(progress.sums)
        self.recent, self.recent_since, self.recent_norm = Sums(), time.monotonic(), 0.0
        self.started, self.saved, self.line_at = time.monotonic(), time.monotonic(), 0.0
        self.display = Display(console, self.recipe.epochs, self.epoch_steps)
        self.unreadable = UnreadableClips(run_dir, self.recipe.unreadable_share, self.display, self.main)
        self.log = RunLog(run_dir, progress.step) if self.main else None

        local = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        workers, self.workers_because = choose_workers(self.recipe, self.accelerator.device, local)
        processes = self.accelerator.num_processes
        share = (self.accelerator.process_index, processes)
        load = partial(
            build_loader,
            workers=workers,
            prefetch=self.recipe.prefetch,
            pin=self.accelerator.device.type == "cuda",
            frames=self.recipe.num_segments,
            size=self.recipe.size,
            needs_depth=self.fed_depth,
        )
        batches = planned(self.plan, progress.step, self.total, *share)
        self.batches = read_ahead(load(data.train, batches))
        self.validation = None
        if data.validation is not None:
            size = max(self.recipe.batch // processes, 1)
            self.validation = load(data.validation, in_order(len(data.validation), size, *share))

    def go(self) -> None:
        """Take every remaining step, with validation after each epoch and checkpoints where they are due."""
        self.note(self.workers_because)
        if self.progress.step == 0:
            self._save()  # so that the run can be resumed whenever it is killed
        for step in range(self.progress.step, self.total):
            stop = self._step(step)
            if (step + 1) % self.epoch_steps == 0:
                self._end_epoch()
            elif stop or self._checkpoint_due(step):
                self._save()
            if stop and not self.progress.finished:
                self._stop()

    def note(self, text: str, loud: bool = False) -> None:
        """Show a line and keep it in the log."""
        self.display.note(text, loud)
        if self.log is not None:
            self.log.write("note", self.progress.step, text=text)

    def close(self) -> None:
        """End the data workers."""
        del self.batches, self.validation

    def _step(self, step: int) -> bool:
        """Take one optimiser step. Returns whether to stop after it."""
        epoch, within = divmod(step, self.epoch_steps)
        if within == 0:
            self.sums, self.progress = Sums(), self.progress.model_copy(update={"unreadable": 0})
        found = next(self.batches)
        agreed = self.engine.agree(found, self.interrupts.requested)
        assert not isinstance(found, DynagestError), "agree has raised it"
        batch, failed = found
        if agreed.unreadable:
            count = self.unreadable.report(failed, "train", epoch + 1, self.progress.unreadable, len(self.data.train))
            self.progress = self.progress.model_copy(update={"unreadable": count})
        if batch is None or agreed.fewest == 0:
            self.note(f"step {step + 1}: skipped, a process has no readable clip")
        else:
            self._train_on(batch, agreed, step)
        self.progress = self.progress.model_copy(update={"step": step + 1, "sums": self.sums.values})
        self._show(epoch, within + 1)
        return agreed.stop

    def _train_on(self, batch: Batch, agreed: Agreement, step: int) -> None:
        lr = self._learning_rate(step)
        try:
            sums, norm = self.engine.step(batch, agreed, step, lr)
        except torch.OutOfMemoryError as error:  # of a GPU
            raise TrainingError(
                f"step {step + 1}: {len(batch['label'])} clips, in {self.recipe.accumulate} parts, do not fit into the "
                f"memory of {self.accelerator.device} ({first_line(error)}). Set a larger accumulate, which "
                "cuts a step into more parts, or a smaller batch, and start anew with --overwrite; or end what else "
                "computes there, and go on with --resume"
            ) from error
        except ValueError as error:
            if not str(error).startswith(_ONE_VALUE):
                raise
            parts = min(self.recipe.accumulate, agreed.fewest)
            raise TrainingError(
                f"step {step + 1}: {len(batch['label'])} readable clips, in {parts} parts (batch {self.recipe.batch}, "
                f"accumulate {self.recipe.accumulate}), leave a part with one value per channel, for which BatchNorm "
                "has no statistics. Set a larger batch or a smaller accumulate, so that every part has two clips, and "
                "start anew with --overwrite"
            ) from error
        if not sums.finite or not norm < float("inf"):
            self.engine.discard()
            names = gather_object([self.data.train.name(int(index)) for index in batch["index"]])
            what = f"loss {self._means(sums)['loss']:g}, gradient norm {norm:g}"
            raise DivergedError(
                f"step {step + 1} (epoch {step // self.epoch_steps + 1}), learning rate {lr:g}: not finite ({what}). "
                f"Nothing of this step is saved. Its clips: {', '.join(names)}. Try a lower lr, a warm-up "
                "(warmup_epochs) or precision=fp32, and look at these clips with `dynagest data check`"
            )
        self.engine.update()
        self.sums, self.recent, self.recent_norm = self.sums + sums, self.recent + sums, norm

    def _show(self, epoch: int, done: int) -> None:
        """Move the progress bar; every ``log_steps`` steps and at the end of an epoch, write a line of the log."""
        if (done % self.recipe.log_steps and done != self.epoch_steps) or not self.recent.clips:
            self.display.step(epoch, done, None)
            return
        now = time.monotonic()
        lr = self._learning_rate(self.progress.step - 1)
        rate = self.recent.clips / max(now - self.recent_since, 1e-9)
        means = self._means(self.recent)
        if self.log is not None:
            place = {"epoch": round(epoch + done / self.epoch_steps, 4), "lr": lr, "grad_norm": self.recent_norm}
            self.log.write("train", self.progress.step, **place, **means, clips_per_second=round(rate, 2))
        due = self.display.live or now - self.line_at > LINE_SECONDS
        text = f"loss {means['loss']:.3f}  top-1 {100 * means['top1']:.1f} %  lr {lr:.2g}  {rate:.1f} clips/s"
        self.display.step(epoch, done, text if due else None)
        self.line_at = now if due else self.line_at
        self.recent, self.recent_since = Sums(), now

    def _end_epoch(self) -> None:
        """Validate, keep the network if it is the best so far (or without validation), log, write the checkpoint."""
        epoch = self.progress.step // self.epoch_steps
        train_means, validation, best = self._means(self.sums), None, self.progress.best
        keep = self.validation is None
        line = f"epoch {epoch}/{self.recipe.epochs}: loss {train_means['loss']:.3f}  top-1 {100 * self.sums.top1:.1f} %"
        if self.validation is not None:
            sums = self._validate(epoch)
            validation = self._means(sums) | {"clips": int(sums.clips)}
            if not sums.finite:
                raise DivergedError(
                    f"validation after epoch {epoch}: the loss is not finite ({validation['loss']:g}), although that "
                    f"of training was ({train_means['loss']:g}): the last steps have ruined the weights, which are not "
                    "saved. Try a lower lr, a warm-up (warmup_epochs) or precision=fp32, and start anew with "
                    "--overwrite; if that does not help, look at the validation clips with `dynagest data check`"
                )
            found = Best(epoch=epoch, top1=sums.top1, loss=validation[self.deciding])
            # Few clips give few different accuracies, so the lower first loss term decides between equals.
            keep = best is None or (found.top1, -found.loss) > (best.top1, -best.loss)
            best = found if keep else best
            line += f"  validation: loss {validation['loss']:.3f}  top-1 {100 * sums.top1:.1f} %" + (
                "  (best)" if keep else ""
            )
        if keep and self.main:
            # Not the whole path, which is this machine's own: the card goes wherever the network goes.
            origin = {"data": "/".join(Path(self.data.description).parts[-2:]), "epoch": str(epoch)}
            if best is not None:
                origin["validation_top1"] = f"{best.top1:.4f}"
            keep_network(self.run_dir, self.engine.task, self.recipe, self.data.train, origin)
        self.display.note(line)
        if self.log is not None:
            trained = train_means | {"clips": int(self.sums.clips)}
            self.log.write("epoch", self.progress.step, epoch=epoch, train=trained, validation=validation, best=keep)
        finished = self.progress.step == self.total
        self.progress = self.progress.model_copy(update={"best": best, "sums": (), "finished": finished})
        self._save()

    def _validate(self, epoch: int) -> Sums:
        assert self.validation is not None
        assert self.data.validation is not None
        sums, failed = self.engine.validate(self.validation)
        self.unreadable.report(failed, "validation", epoch, 0, len(self.data.validation))
        self.recent_since = time.monotonic()
        return sums

    def _learning_rate(self, step: int) -> float:
        return learning_rate(self.recipe, step, self.epoch_steps, self.plan.clips)

    def _means(self, sums: Sums) -> dict[str, float]:
        return sums.means(self.engine.task.terms)

    def _checkpoint_due(self, step: int) -> bool:
        every = self.recipe.checkpoint_steps
        by_steps = every is not None and (step + 1) % every == 0
        return by_steps or time.monotonic() - self.saved > self.recipe.checkpoint_seconds

    def _save(self) -> None:
        now = time.monotonic()
        seconds = self.progress.seconds + now - self.started
        self.progress, self.started = self.progress.model_copy(update={"seconds": seconds}), now
        if self.main:
            checkpoint = Checkpoint(progress=self.progress, recipe=self.recipe, data=self.data.fingerprint)
            save_checkpoint(self.run_dir, self.engine.task, self.engine.optimiser, checkpoint)
        self.saved = time.monotonic()

    def _stop(self) -> None:
        epoch, within = divmod(self.progress.step, self.epoch_steps)
        where = f"stopped after step {within} of epoch {epoch + 1}"
        text = f"{where}; nothing is lost: {resuming(self.home)}"
        self.note(text)
        raise TrainingInterrupted(text)
