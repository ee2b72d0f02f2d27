"""People, places and distractors: each number of the spec changes what it names, by as much as it says."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from dynagest.synth.canvas import paint
from dynagest.synth.film import Take, _background, camera_of
from dynagest.synth.gestures import GESTURES
from dynagest.synth.hand import hand_solids
from dynagest.synth.motion import X, draw_motion, pose_at
from dynagest.synth.recording import plan, scene_of
from dynagest.synth.scene import Scene, camera_shift, scene_solids, shaken
from dynagest.synth.solids import Solids
from dynagest.synth.spec import SynthSpec
from dynagest.synth.subject import Subject, draw_subject, skin_tone

SKIN = np.array([skin_tone(darkness)[0] for darkness in np.linspace(0, 1, 1001)])


def is_skin(colour: tuple[float, ...]) -> bool:
    return bool(np.abs(SKIN - colour).sum(axis=1).min() < 5e-3)


def scenes(count: int = 200, **fields: object) -> list[Scene]:
    return [scene_of(SynthSpec(**fields), number) for number in range(count)]


def takes(count: int = 100, **fields: object) -> list[Take]:
    return [plan(SynthSpec(**fields), "train", index) for index in range(count)]


def solids(take: Take) -> Solids | None:
    pose = pose_at(take.motion, take.times, take.subject, take.events.stage)
    return scene_solids(take.events, take.subject, pose, take.times)


def people(count: int = 400, left_handed: float = 0.25, style: float = 0.7) -> list[Subject]:
    return [
        draw_subject(number, np.random.default_rng(number), left_handed=left_handed, style=style)
        for number in range(count)
    ]


def test_clutter_is_objects_with_texture_some_of_them_in_the_colours_of_skin():
    bare, full = scenes(clutter=0.0), scenes(clutter=1.0)
    assert not any(scene.canvas.items for scene in bare)
    assert {13, 25} <= {len(scene.canvas.items) for scene in full} <= set(range(13, 26))
    items = [item for scene in full for item in scene.canvas.items]
    assert {item.texture for item in items} == {"plain", "stripes", "checks", "speckle"}
    assert {item.kind for item in items} == {"ellipse", "box"}
    assert np.mean([is_skin(item.colour) for item in items]) == pytest.approx(0.22, abs=0.03)
    edges = [
        np.mean([float(paint(scene.canvas, 48)[:3].diff(dim=2).abs().mean()) for scene in some[:10]])
        for some in (bare, full)
    ]
    assert edges[1] > 3 * edges[0]


def test_distractors_move_behind_the_hand_half_of_them_in_the_colours_of_skin():
    assert not any(take.events.movers for take in takes(distractors=0.0))
    some = takes(distractors=1.0, views=("egocentric",))
    assert np.mean([len(take.events.movers) for take in some]) == pytest.approx(4 * 0.6, abs=0.3)
    movers = [mover for take in some for mover in take.events.movers]
    assert np.mean([is_skin(mover.colour) for mover in movers]) == pytest.approx(0.5, abs=0.1)
    assert all(mover.start[2] > take.events.stage.centre[2] for take in some for mover in take.events.movers)
    drift = torch.cat([each.a.amax(0) - each.a.amin(0) for each in map(solids, some) if each is not None]).norm(dim=1)
    assert len(drift) == len(movers)
    assert drift.min() > 10
    assert drift.median() > 100  # mm


def test_only_before_a_frontal_camera_is_there_the_person():
    some = takes(distractors=0.0)
    frontal = [take.events.stage.view == "frontal" for take in some]
    assert np.mean(frontal) == pytest.approx(0.5, abs=0.15)
    for take, faces in zip(some, frontal, strict=True):
        parts = solids(take)
        assert (parts is not None) == faces
        if parts is not None:
            # Head, neck, torso and limbs, all behind the middle of the gesture, in the person's own skin.
            assert (parts.count, parts.a[..., 2].min() > take.events.stage.centre[2]) == (11, True)
            assert sum(parts.albedo.isclose(torch.tensor(take.subject.skin)).all(dim=1)) == 3


def test_an_unsteady_camera_moves_hand_and_background_alike():
    spec = SynthSpec(shake=1.0, size=64)
    take = plan(spec, "train", 0)
    shift = torch.from_numpy(camera_shift(take.events, take.times)).float()
    assert shift.std(dim=0).min() * spec.size > 0.3, "pixels, so that the rest means something"
    hand = hand_solids(pose_at(take.motion, take.times, take.subject, take.events.stage), take.subject)
    camera = camera_of(spec)
    for before, after in zip((hand.a, hand.b), (shaken(hand, shift).a, shaken(hand, shift).b), strict=True):
        moved = camera.project(after) - camera.project(before)
        torch.testing.assert_close(moved, (shift * spec.size)[:, None].expand_as(moved), rtol=0, atol=1e-3)
    still = replace(take.events, offset=(0.0, 0.0))
    there, here = _background(take.scene, still, torch.tensor([[0, 0], [3, -2]]) / 64, 64, torch.device("cpu"))
    assert torch.equal(here[:, :-2, 3:], there[:, 2:, :-3]), "3 pixels to the right and 2 up"
    assert not camera_shift(plan(SynthSpec(shake=0.0), "train", 0).events, take.times).any()


def test_light_varies_between_scenes_in_strength_and_colour():
    even, varied = scenes(light=0.0), scenes(light=1.0)
    assert {(scene.light.colour, scene.light.ambient, scene.exposure) for scene in even} == {
        ((0.62,) * 3, (0.42,) * 3, (1.0,) * 3)
    }
    strength = [scene.light.colour[1] * scene.exposure[1] for scene in varied]
    assert max(strength) > 2 * min(strength)
    warmth = [scene.light.colour[0] / scene.light.colour[2] for scene in varied]
    assert (min(warmth) < 0.8, max(warmth) > 1.25) == (True, True)
    directions = np.array([scene.light.direction for scene in even])
    np.testing.assert_allclose(np.linalg.norm(directions, axis=1), 1)
    assert directions[:, :2].std(axis=0).min() > 0.2, "from other sides, however even the light"


def test_people_differ_in_hand_skin_sleeve_and_side():
    some = people()
    assert np.mean([person.side < 0 for person in some]) == pytest.approx(0.25, abs=0.05)
    assert {person.side for person in people(50, left_handed=0.0)} == {1.0}
    for name, low, high in (("scale", 0.86, 1.12), ("thickness", 0.9, 1.14), ("palm_width", 0.94, 1.06)):
        values = [getattr(person, name) for person in some]
        assert (min(values), max(values)) == (pytest.approx(low, abs=0.01), pytest.approx(high, abs=0.01))
    fingers = np.array([person.finger_lengths for person in some])
    assert (fingers / fingers.mean(axis=1, keepdims=True)).std(axis=0).min() > 0.01, "in proportion, not in size alone"
    luma = [np.dot(person.skin, (0.299, 0.587, 0.114)) for person in some]
    assert (min(luma) < 0.25, max(luma) > 0.75) == (True, True)
    long = [person.sleeve_start < 0.5 for person in some]
    assert np.mean(long) == pytest.approx(0.6, abs=0.08), "the others' forearms are bare"
    assert np.mean([person.sleeve_stripe > 0 for person in some]) == pytest.approx(0.4, abs=0.08)


def test_people_differ_in_speed_and_reach_by_as_much_as_style_says():
    assert {(p.amplitude, p.tempo, p.tremor, p.drop, p.habit) for p in people(20, style=0.0)} == {
        (1.0, 0.0, 0.0, 0.0, (0.0,) * 8)
    }
    average = people(1, style=0.0)[0]

    def stroke(person: Subject) -> tuple[float, float]:
        """How long a swipe takes, as a share of the clip, and how far it goes in mm."""
        motion = draw_motion(GESTURES["swipe_right"], person, np.random.default_rng(0), style=1.0)
        return motion.times[-2] - motion.times[1], motion.keys[-2, X] - motion.keys[1, X]

    duration, reach = stroke(average)
    assert stroke(replace(average, tempo=1.0))[0] == pytest.approx(duration - 0.11)
    assert stroke(replace(average, tempo=-1.0))[0] == pytest.approx(duration + 0.11)
    assert stroke(replace(average, amplitude=1.2))[1] == pytest.approx(1.2 * reach)
    assert np.std([person.tempo for person in people(style=1.0)]) > 0.5
