# SPDX-License-Identifier: GPL-3.0-or-later
"""The verbs as a script calls them: results on heads, and refusals in words."""

from __future__ import annotations

import numpy as np
import pytest

bpy = pytest.importorskip("bpy")

from tests.blender.conftest import driven, needs_sound, values  # noqa: E402


def status():
    return bpy.context.window_manager.diffspeaker


def keys_of(head):
    return [] if head.data.shape_keys is None else list(head.data.shape_keys.key_blocks.keys())


def test_generate_blocks_and_writes_keys(addon, demo, line):
    """A script gets FINISHED, curves on the head, and a sentence that proves it."""
    result = bpy.ops.diffspeaker.generate(audio=str(line), head=demo.name)
    assert result == {"FINISHED"}
    assert driven(demo).name in keys_of(demo)
    moved = values(demo, range(1, 25))
    assert moved.max() > 0.8
    assert moved.min() < 0.2
    assert status().message.startswith("Mouth moved")
    assert status().message.endswith("sound in sync")
    assert status().level == "INFO"


@needs_sound
def test_generate_takes_the_selected_strip_at_its_place(addon, demo, line):
    """The keys begin where the strip begins, whatever else lies on the timeline."""
    scene = bpy.context.scene
    editor = scene.sequence_editor_create()
    strips = editor.strips if hasattr(editor, "strips") else editor.sequences
    strip = strips.new_sound("hello", str(line), 1, 49)
    strip.select = True
    assert bpy.ops.diffspeaker.generate() == {"FINISHED"}
    assert values(demo, range(1, 48)).max() == 0
    assert values(demo, range(49, 73)).max() > 0.8
    assert demo.diffspeaker.clip == "hello"


def test_choices_given_to_the_operator_win(addon, demo, line):
    """A script's own values hold for the call and leave the scene's choices alone."""
    bpy.context.scene.diffspeaker.intensity = 1.0
    bpy.ops.diffspeaker.generate(audio=str(line), head=demo.name, intensity=0.5)
    assert bpy.context.scene.diffspeaker.intensity == 1.0
    assert demo.diffspeaker.intensity == 0.5
    assert values(demo, range(1, 25)).max() < 0.6


@pytest.mark.parametrize("output", ["NAMED", "COMPACT", "FRAMES", "CACHE"])
def test_every_form_of_output_moves_the_mouth(addon, demo, line, output, tmp_path):
    """Named, compact, one key a frame, and point cache."""
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "scene.blend"))
    demo = bpy.context.scene.diffspeaker.head
    bpy.ops.diffspeaker.generate(audio=str(line), head=demo.name, output=output)
    assert status().level == "INFO", status().message
    graph = bpy.context.evaluated_depsgraph_get()
    shown = []
    for frame in (1, 5):
        bpy.context.scene.frame_set(frame)
        mesh = demo.evaluated_get(graph).data
        points = np.empty(len(mesh.vertices) * 3, np.float32)
        mesh.vertices.foreach_get("co", points)
        shown.append(points)
    assert np.abs(shown[1] - shown[0]).max() > 0.001


def test_generating_again_replaces_only_its_own(addon, demo, line):
    """The user's own key and action stay, the number of keys stays."""
    demo.shape_key_add(name="scar")
    bpy.ops.diffspeaker.generate(audio=str(line), head=demo.name)
    first = keys_of(demo)
    bpy.ops.diffspeaker.generate(audio=str(line), head=demo.name)
    assert keys_of(demo) == first
    assert "scar" in first


def test_edits_that_are_replaced_are_told(addon, demo, line):
    """Hand edits are not lost without a word."""
    bpy.ops.diffspeaker.generate(audio=str(line), head=demo.name)
    key = demo.data.shape_keys
    path = f'key_blocks["{driven(demo).name}"].value'
    driven(demo).value = 0.33
    key.keyframe_insert(path, frame=7)
    bpy.ops.diffspeaker.generate(audio=str(line), head=demo.name)
    assert "Your edits of jawOpen" in status().hint


def test_live_controls_rewrite_the_curves(addon, demo, line):
    """Intensity scales what is there; back at 1 everything is as generated."""
    bpy.ops.diffspeaker.generate(audio=str(line), head=demo.name)
    before = values(demo, range(1, 25))
    demo.diffspeaker.intensity = 0.5
    assert values(demo, range(1, 25)).max() < 0.75 * before.max()
    demo.diffspeaker.intensity = 1.0
    np.testing.assert_allclose(values(demo, range(1, 25)), before, atol=1e-4)


def test_live_controls_follow_the_chosen_line(addon, demo, line):
    """Each line keeps its own controls; choosing one shows them; one button shares them."""
    for start in (1.0, 101.0):
        name = f"{start:.0f}"
        other = line.with_name(f"{name}.wav")
        other.write_bytes(line.read_bytes())
        bpy.ops.diffspeaker.generate(audio=str(other), head=demo.name, start_frame=start)
    live = demo.diffspeaker
    assert live.clip == "101"
    live.jaw = 0.4
    live.clip = "1"
    assert live.jaw == pytest.approx(1.0)
    live.jaw = 0.7
    bpy.ops.diffspeaker.adjust_all(head=demo.name)
    live.clip = "101"
    assert live.jaw == pytest.approx(0.7)


def test_remove_takes_a_line_off_again(addon, demo, line):
    """After removing, nothing moves and no live control points nowhere."""
    bpy.ops.diffspeaker.generate(audio=str(line), head=demo.name)
    bpy.ops.diffspeaker.remove_result(head=demo.name, clip=demo.diffspeaker.clip)
    assert demo.diffspeaker.clip in ("", "NONE")
    assert not any(block.value for block in demo.data.shape_keys.key_blocks[1:])


def test_muted_keys_are_told_and_mended(addon, demo, line):
    """When nothing would be seen it says why, and the button mends it."""
    bpy.ops.diffspeaker.generate(audio=str(line), head=demo.name)
    driven(demo).mute = True
    bpy.ops.diffspeaker.generate(audio=str(line), head=demo.name)
    if status().level == "WARNING":
        assert status().fix
        bpy.ops.diffspeaker.fix(name=status().fix, head=demo.name)
    assert not driven(demo).mute
    assert status().level == "INFO"


# --- bad worlds ----------------------------------------------------------------------------------


def refused(words, **arguments):
    """Call generate; it must raise in words and change nothing."""
    with pytest.raises(RuntimeError, match=words) as caught:
        bpy.ops.diffspeaker.generate(**arguments)
    assert "Traceback" not in str(caught.value)
    assert status().level == "ERROR"


def test_no_strip_is_told(addon, demo):
    """Nothing selected is not silence."""
    refused("No sound strip is selected")


def test_no_head_is_told(addon, line):
    """An empty scene offers the demo head."""
    refused("no head", audio=str(line))


def test_an_unknown_head_is_named(addon, demo, line):
    """A script's typing error is told."""
    refused("no object called “Hed”", audio=str(line), head="Hed")


def test_a_missing_file_is_named(addon, demo, tmp_path):
    """The path is in the message."""
    refused("nothing.wav", audio=str(tmp_path / "nothing.wav"))


def test_a_wrong_mesh_is_refused(addon, line):
    """A cube has no face, and the message says what it would need to have one."""
    bpy.ops.mesh.primitive_cube_add()
    refused("no face that moves: it would need", audio=str(line), head=bpy.context.object.name)


def test_edit_mode_is_refused(addon, demo, line):
    """Keys written in Edit Mode would be lost on leaving it."""
    bpy.context.view_layer.objects.active = demo
    with bpy.context.temp_override(active_object=demo, object=demo):
        bpy.ops.object.mode_set(mode="EDIT")
    refused("(?i)mode", audio=str(line), head=demo.name)
    with bpy.context.temp_override(active_object=demo, object=demo):
        bpy.ops.object.mode_set(mode="OBJECT")


def test_a_worker_that_dies_is_told_and_nothing_is_lost(addon, demo, line):
    """A killed worker fails the job; the next one works."""
    bpy.ops.diffspeaker.generate(audio=str(line), head=demo.name)
    before = values(demo, range(1, 25))
    refused(".", audio=str(line), head=demo.name, seed=666)
    np.testing.assert_array_equal(values(demo, range(1, 25)), before)
    assert bpy.ops.diffspeaker.generate(audio=str(line), head=demo.name) == {"FINISHED"}


def test_without_a_runtime_it_says_how_to_get_one(addon, demo, line, monkeypatch):
    """No engine and no Python for the model: the sentence names the button."""
    monkeypatch.delenv("DIFFSPEAKER_PYTHON")
    monkeypatch.setattr("diffspeaker_blender.worker.runtime.carries_engine", lambda: False)
    refused("(?i)install", audio=str(line), head=demo.name)


def test_no_network_is_told_before_anything_is_installed(addon, monkeypatch):
    """Online access is off by default; the message names the setting or the folder of wheels."""
    assert not bpy.app.online_access
    with pytest.raises(RuntimeError, match=r"(?i)online"):
        bpy.ops.diffspeaker.install_runtime()


def test_the_setup_check_speaks_in_words(addon):
    """Device and speed are told, and the report can be copied."""
    assert bpy.ops.diffspeaker.check_setup() == {"FINISHED"}
    from diffspeaker_blender.ui import report

    assert "Blender" in report.of_blender()


def test_a_model_file_can_be_imported_chosen_and_removed(addon, tmp_path):
    """It shows with its styles and licence, and the bundled one cannot be removed."""
    from diffspeaker_blender.settings import machine
    from diffspeaker_blender.worker import model_files
    from tests.worker.test_model_files import write_model

    path = write_model(tmp_path / "studio.safetensors", name="Studio", styles=["calm", "loud"])
    bpy.ops.diffspeaker.import_checkpoint(filepath=str(path))
    assert "Studio was imported (research only)" in status().message
    settings = bpy.context.scene.diffspeaker
    settings.model = "studio"
    settings.style = "loud"
    assert settings.style == "loud"
    bpy.ops.diffspeaker.remove_model(model="studio")
    assert model_files.find("studio", machine.models_folder()) is None
    with pytest.raises(RuntimeError, match="no model"):
        bpy.ops.diffspeaker.remove_model(model=model_files.BUNDLED)
    with pytest.raises(RuntimeError, match="no file"):
        bpy.ops.diffspeaker.import_checkpoint(filepath=str(tmp_path / "gone.ckpt"))


def test_a_folder_that_cannot_be_written_is_told(addon, demo, line, tmp_path):
    """A point cache needs a place; when there is none, a sentence says so."""
    blocked = tmp_path / "blocked"
    blocked.write_text("a file where a folder should be", encoding="utf-8")
    from diffspeaker_blender.errors import SetupError
    from diffspeaker_blender.settings import machine

    with pytest.raises(SetupError, match="cannot be made"):
        machine.made(blocked / "cache")


def test_export_writes_what_is_chosen(addon, demo, line, tmp_path):
    """The suffix decides; the report is a sentence."""
    bpy.ops.diffspeaker.generate(audio=str(line), head=demo.name)
    for name in ("head.glb", "curves.csv"):
        target = tmp_path / name
        assert bpy.ops.diffspeaker.export(filepath=str(target)) == {"FINISHED"}
        assert target.stat().st_size > 0


def test_a_motion_file_can_be_applied_later(addon, demo, line, tmp_path):
    """`apply` takes a motion that was generated elsewhere."""
    from diffspeaker_blender.character import head
    from diffspeaker_blender.settings import machine

    worker = machine.new_worker()
    face = head.write_face(demo, tmp_path / "face.npz")
    request = worker.generate(audio=str(line), face=str(face), output=str(tmp_path / "motion.npz"))
    worker.wait(request, 30)
    worker.stop()
    motion = str(tmp_path / "motion.npz")
    bpy.ops.diffspeaker.apply(filepath=motion, head=demo.name, start_frame=10)
    assert values(demo, range(10, 35)).max() > 0.8
    assert demo.diffspeaker.clip == "motion"
