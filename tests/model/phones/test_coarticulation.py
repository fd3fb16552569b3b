# SPDX-License-Identifier: GPL-3.0-or-later
"""Timed phones become curves as a good animator would draw them."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.errors import StyleError
from model.phones.coarticulation import (
    LIFE_CONTROLS,
    SPEECH_CONTROLS,
    STYLES,
    Lips,
    Phone,
    speech_curves,
)
from model.phones.mouth_opening import (
    LOWER_SHARE,
    UPPER_SHARE,
    lip_opening,
    mouth_width,
    share_opening,
    unsealed_opening,
)
from model.phones.phonemes import BILABIALS, OPEN_VOWELS, SOUNDS, sound_of
from model.rig.controls import CONTROLS, INDEX

SILENT = np.zeros(0)


def say(text, *, length=0.09, fps=30.0, style="neutral", samples=SILENT, pause=0.5):
    """Return (phones, curves, opening, times) of phones of equal length between two pauses."""
    names = text.split()
    phones = [Phone("SIL", 0.0, pause)]
    for name in names:
        phones.append(Phone(name, phones[-1].end, phones[-1].end + length))
    phones.append(Phone("SIL", phones[-1].end, phones[-1].end + pause))
    frames = int(np.ceil(phones[-1].end * fps)) + 1
    curves = speech_curves(phones, samples, 16000, fps=fps, frames=frames, style=style)
    return phones, curves, lip_opening(curves), np.arange(frames) / fps


def inside(times, phone, margin=0.0):
    return (times >= phone.start - margin) & (times <= phone.end + margin)


def test_curves_are_weights_of_the_speech_controls_only():
    _, curves, _, _ = say("HH EH L OW W ER L D")
    assert curves.dtype == np.float32 and curves.shape[1] == len(CONTROLS)
    assert curves.min() >= 0 and curves.max() <= 1
    others = np.setdiff1d(np.arange(len(CONTROLS)), SPEECH_CONTROLS)
    assert not curves[:, others].any()
    assert not set(SPEECH_CONTROLS) & set(LIFE_CONTROLS)


@pytest.mark.parametrize("fps", [24, 25, 30, 60])
@pytest.mark.parametrize("length", [0.03, 0.06, 0.12])
@pytest.mark.parametrize("style", STYLES)
def test_every_p_b_m_really_closes(fps, length, style):
    phones, curves, opening, times = say(
        "M AA M AA P EH B IY AW B L UW P", fps=fps, length=length, style=style
    )
    for phone in phones:
        if phone.name in BILABIALS:
            near = inside(times, phone, 0.06)
            assert curves[near, INDEX["mouthClose"]].max() > 0.99
            assert opening[near].min() == 0


@pytest.mark.parametrize("style", STYLES)
def test_open_vowels_between_closures_open(style):
    phones, _, opening, times = say("M AA M AY B AE P EH M", length=0.1, style=style)
    for phone in phones:
        if phone.name in OPEN_VOWELS:
            assert opening[inside(times, phone)].max() > 0.03


def test_f_and_v_tuck_the_lower_lip():
    phones, curves, _, times = say("AA F AA V AA")
    for phone in (phones[2], phones[4]):
        assert curves[inside(times, phone, 0.02), INDEX["lipTuck"]].max() > 0.85


def test_vowels_open_in_their_natural_order():
    peaks = []
    for vowel in ("AA", "EH", "IH", "UW"):
        phones, _, opening, times = say(f"T {vowel} T", length=0.15)
        peaks.append(opening[inside(times, phones[2])].max())
    assert peaks == sorted(peaks, reverse=True)


def test_rounding_spreads_over_sounds_that_do_not_care():
    pucker = INDEX["mouthPucker"]
    phones, round_, _, times = say("AA T UW")
    _, spread, _, _ = say("AA T IY")
    consonant = inside(times, phones[2])
    assert round_[consonant, pucker].mean() > spread[consonant, pucker].mean() + 0.03


def test_short_vowels_undershoot():
    long, short = (say("T AA T AA T", length=length)[2].max() for length in (0.2, 0.05))
    assert short < 0.9 * long


def test_silence_rests_and_lips_part_before_speech():
    phones = [Phone("SIL", 0, 3), Phone("AA", 3, 3.2), Phone("SIL", 3.2, 6)]
    curves = speech_curves(phones, SILENT, 16000, fps=30, frames=181)
    opening = lip_opening(curves)
    assert opening[:80].max() < 0.02 and opening[120:].max() < 0.02


def test_no_phones_is_a_resting_mouth():
    curves = speech_curves([], SILENT, 16000, fps=30, frames=60)
    assert lip_opening(curves).max() < 0.02 and np.ptp(curves, axis=0).max() < 0.02


def test_long_sounds_are_held():
    phones = [Phone("SIL", 0, 0.5), Phone("AA", 0.5, 4.5), Phone("SIL", 4.5, 5)]
    opening = lip_opening(speech_curves(phones, SILENT, 16000, fps=30, frames=151))
    assert np.ptp(opening[24:129]) < 0.005 and opening[60] > 0.1


def test_louder_vowels_open_further():
    samples = np.random.default_rng(0).normal(size=16000 * 2) * 0.01
    phones, _, _, times = say("T AA T AA T AA T", length=0.15)
    loud = phones[4]
    samples[int(loud.start * 16000) : int(loud.end * 16000)] *= 20
    _, _, opening, _ = say("T AA T AA T AA T", length=0.15, samples=samples)
    peaks = [opening[inside(times, phone)].max() for phone in (phones[2], loud, phones[6])]
    assert peaks[1] > 1.05 * max(peaks[0], peaks[2])


def test_styles_differ_in_amplitude_and_mix():
    sentence = "P L EY S W AY T IH N JH EY TH R IY P L IY Z"
    size = {name: say(sentence, style=name)[2].mean() for name in STYLES}
    assert size["mumbled"] < 0.75 * size["neutral"] < size["neutral"] < size["energetic"]
    assert size["over-articulated"] > 1.1 * size["neutral"]
    half = say(sentence, style={"neutral": 1, "mumbled": 1})[2].mean()
    assert size["mumbled"] < half < size["neutral"]


def test_unknown_styles_are_refused():
    for style in ("drunk", {"neutral": 0.0}, {"neutral": 2, "mumbled": -1}, {}):
        with pytest.raises(StyleError):
            say("AA", style=style)


def test_the_same_phones_give_the_same_curves_in_any_order():
    phones, curves, _, _ = say("B IH N B L UW")
    again = speech_curves(phones[::-1], SILENT, 16000, fps=30, frames=len(curves))
    assert np.array_equal(curves, again)


def test_long_clips_are_the_same_as_short_ones():
    """Blending in blocks leaves no seam."""
    phones, _, _, _ = say(" ".join(["B AA T IY S UW"] * 60))
    whole = speech_curves(phones, SILENT, 16000, fps=30, frames=1000)
    part = speech_curves(phones, SILENT, 16000, fps=30, frames=300)
    assert np.allclose(whole[:290], part[:290], atol=1e-6)
    assert np.abs(np.diff(whole[:, INDEX["jawOpen"]])).max() < 0.2


def test_five_hundred_times_real_time():
    phones, _, _, _ = say(" ".join(["B AA T IY S UW"] * 110))
    start = time.perf_counter()
    speech_curves(phones, np.zeros(16000 * 60), 16000, fps=30, frames=1800)
    assert 60 / (time.perf_counter() - start) > 200


@given(
    st.lists(
        st.tuples(st.sampled_from([*SOUNDS, "?", "ʘ", "AA1"]), st.floats(0, 5), st.floats(0, 0.5)),
        max_size=30,
    ),
    st.sampled_from([12.0, 25.0, 30.0, 120.0]),
)
@settings(max_examples=60, deadline=None)
def test_any_phones_give_finite_weights(rows, fps):
    """Overlaps, gaps, nothing, unknown names: no input breaks the curves."""
    phones = [Phone(name, start, start + length) for name, start, length in rows]
    curves = speech_curves(phones, SILENT, 16000, fps=fps, frames=int(fps * 3))
    assert np.isfinite(curves).all() and curves.min() >= 0 and curves.max() <= 1


@pytest.mark.parametrize(
    ("name", "sound"),
    [("AA1", "AA"), ("ah0", "AH"), ("<sil>", "SIL"), ("+SPN+", "SIL"), ("tʃ", "CH"), ("ɥ", "W"),
     ("yː", "UW"), ("β", "B"), ("tʰ", "T"), ("ʒ", "ZH"), ("!!", "AH"), ("", "SIL")],
)  # fmt: skip
def test_other_phone_sets_map_onto_the_inventory(name, sound):
    assert sound_of(name) == sound


def test_shares_of_diphthongs_sum_to_one():
    assert all(sum(aim.share for aim in aims) == pytest.approx(1) for aims in SOUNDS.values())


def test_jaw_and_lips_together_give_the_opening_asked_for():
    random = np.random.default_rng(0)
    opening, jaw = random.uniform(0, 0.18, 200), random.uniform(0, 0.6, 200)
    pucker, funnel = random.uniform(0, 0.6, 200), random.uniform(0, 0.4, 200)
    jaw, part, narrow = share_opening(opening, jaw, pucker, funnel, np.zeros(200))
    open_ = unsealed_opening(jaw, pucker, funnel, LOWER_SHARE * part, UPPER_SHARE * part)
    got = np.maximum(open_ - narrow * (open_ + 0.016), 0)
    assert np.abs(got - opening).max() < 0.02
    assert mouth_width(jaw, pucker, funnel, 0 * jaw).min() > 0.2


def heard_of(opening, width=None, share=0.8, **more):
    width = np.ones_like(opening) if width is None else width
    return Lips(np.stack([opening, width], axis=1), share, **more)


def test_what_was_heard_has_its_share_and_contacts_stay():
    phones, curves, opening, times = say("T AA T AA T AA B AA T", length=0.12)
    wanted = 0.5 + times  # ever wider
    args = (phones, SILENT, 16000)
    bent = speech_curves(*args, fps=30, frames=len(times), lips=heard_of(wanted))
    none = speech_curves(*args, fps=30, frames=len(times), lips=heard_of(wanted, share=0.0))
    assert np.allclose(none, curves, atol=1e-6)
    first, last = inside(times, phones[2]), inside(times, phones[8])
    after = lip_opening(bent)
    assert after[last].max() / after[first].max() > 1.2 * opening[last].max() / opening[first].max()
    assert after[inside(times, phones[7], 0.06)].min() == 0


def test_a_reader_that_does_not_move_leaves_the_shapes():
    phones, curves, _, times = say("B AA T UW")
    flat = heard_of(np.full(len(times), 0.7))
    bent = speech_curves(phones, SILENT, 16000, fps=30, frames=len(times), lips=flat)
    pucker = INDEX["mouthPucker"]
    assert np.allclose(bent[:, pucker], curves[:, pucker], atol=1e-6)
    assert np.isfinite(bent).all() and bent.shape == curves.shape
    assert lip_opening(bent)[inside(times, phones[1], 0.06)].min() == 0


def test_seen_lips_are_followed_in_pauses_too_and_heard_ones_are_not():
    phones = [Phone("AA", 0, 0.5), Phone("SIL", 0.5, 2.5), Phone("AA", 2.5, 3.0)]
    for seen, least, most in ((True, 0.1, 0.2), (False, 0.0, 0.02)):
        lips = heard_of(np.full(90, 1.0), share=1.0, seen=seen)
        bent = speech_curves(phones, SILENT, 16000, fps=30, frames=90, lips=lips)
        assert least <= lip_opening(bent)[45] <= most


def test_short_pauses_leave_the_lips_apart_and_long_ones_shut_them():
    for length, before, apart in ((0.4, "AA", True), (1.2, "AA", False), (0.4, "M", False)):
        phones = [Phone(before, 0, 0.4), Phone("SIL", 0.4, 0.4 + length)]
        phones.append(Phone("AA", 0.4 + length, 0.8 + length))
        curves = speech_curves(phones, SILENT, 16000, fps=60, frames=150)
        middle = round((0.4 + length / 2) * 60)
        assert (lip_opening(curves)[middle] > 0.03) == apart


def test_a_mouth_opens_once_for_the_breath_after_a_long_silence():
    phones = [Phone("SIL", 0, 3), Phone("AA", 3, 3.2), Phone("SIL", 3.2, 6)]
    opening = lip_opening(speech_curves(phones, SILENT, 16000, fps=30, frames=181))
    assert opening[30:80].max() < 0.005 and opening[88] > 0.02
