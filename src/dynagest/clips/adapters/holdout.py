"""Takes a validation split out of the train split, for datasets that come without one."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from dynagest.clips.manifest import Clip
from dynagest.errors import ManifestError, some


def hold_out(clips: Sequence[Clip], share: float, seed: int) -> tuple[list[Clip], str]:
    """Move about ``share`` of the train clips to ``val``. Returns all clips in their order and a note on the split.

    Moves whole subjects if every train clip names one and there are at least two, so that no subject is in both splits;
    else whole recordings, if the clips were cut from several and one can be spared; else single clips, in proportion
    from each class, to within one clip. In any case every class keeps at least one of its train clips. The same seed
    gives the same split. Raises ``ManifestError`` if ``share`` is not between 0 and 1 (both excluded), if there is a
    val split already, or if nothing can be held out.
    """
    if not 0 < share < 1:
        raise ManifestError(f"--holdout {share}: expected a share between 0 and 1, such as 0.25")
    if any(clip.split == "val" for clip in clips):
        raise ManifestError("--holdout: this set has a val split already; leave the option out")
    train = [index for index, clip in enumerate(clips) if clip.split == "train"]
    rng = np.random.default_rng(seed)
    subjects = {clips[index].subject for index in train}
    recordings = {clips[index].video for index in train}
    if "" not in subjects and len(subjects) > 1:
        chosen, names = _by_group(clips, train, [clip.subject for clip in clips], share, rng)
        how = f"by subject ({', '.join(sorted(names))})"
    elif 1 < len(recordings) < len(train):
        chosen, names = _by_group(clips, train, [str(clip.video) for clip in clips], share, rng)
        how = f"by recording ({some(sorted(names))}), since the subjects are not known" if chosen else ""
    else:
        chosen, how = set(), ""
    if not how:
        chosen, how = _by_clip(clips, train, share, rng), "by clip, since the subjects are not known"
        alone = sum(count == 1 for count in Counter(clips[index].label for index in train).values())
        if alone and len(chosen) < round(share * len(train)):
            how += f"; fewer than {share:g} of all, as {alone} classes have a single train clip, which stays in train"
    if not chosen:
        raise ManifestError(f"--holdout {share}: nothing to hold out; no class has two train clips, or too few in all")
    held = [replace(clip, split="val") if index in chosen else clip for index, clip in enumerate(clips)]
    return held, f"held out {len(chosen)} of {len(train)} train clips as val, {how}; seed {seed}"


def _by_group(
    clips: Sequence[Clip], train: list[int], groups: Sequence[str], share: float, rng: np.random.Generator
) -> tuple[set[int], list[str]]:
    """Go through the groups (one for each clip) in random order; take each that brings their clips nearer to the share.

    A group that would leave a class without train clips is not taken.
    """
    clips_of: dict[str, list[int]] = {}
    for index in train:
        clips_of.setdefault(groups[index], []).append(index)
    left = Counter(clips[index].label for index in train)
    target = share * len(train)
    chosen: set[int] = set()
    names = []
    for group in rng.permutation(sorted(clips_of)):
        candidate = clips_of[group]
        taken = Counter(clips[index].label for index in candidate)
        nearer = abs(len(chosen) + len(candidate) - target) < abs(len(chosen) - target)
        if nearer and all(left[label] > count for label, count in taken.items()):
            chosen.update(candidate)
            left -= taken
            names.append(str(group))
    return chosen, names


def _by_clip(clips: Sequence[Clip], train: list[int], share: float, rng: np.random.Generator) -> set[int]:
    """Take the share of each class, rounded by largest remainder so that many small classes still add up to the share.

    A class keeps its last clip. What classes of a single clip cannot give, others give, each at most one clip more than
    its share.
    """
    clips_of: dict[str, list[int]] = {}
    for index in train:
        clips_of.setdefault(clips[index].label, []).append(index)
    labels = [label for label in sorted(clips_of) if len(clips_of[label]) > 1]
    wanted = {label: int(share * len(clips_of[label])) for label in labels}  # fewer than all, as share < 1
    remaining = round(share * len(train)) - sum(wanted.values())
    order = [labels[i] for i in rng.permutation(len(labels))]
    order.sort(key=lambda label: wanted[label] - share * len(clips_of[label]))
    for label in order:
        if remaining > 0 and wanted[label] < len(clips_of[label]) - 1:
            wanted[label] += 1
            remaining -= 1
    return {int(i) for label in labels for i in rng.permutation(clips_of[label])[: wanted[label]]}
