# SPDX-License-Identifier: GPL-3.0-or-later
"""The ways out: mend what keeps a head from speaking or its keys from being seen."""

# mypy: disable-error-code="valid-type,no-any-return"
from __future__ import annotations

import bpy
from bpy.props import StringProperty

from ..animation import diagnosis
from ..character import head
from ..errors import LipSyncError
from ..jobs import live, plan, queue, status
from ..jobs.status import refuse

HEAD_FIXES = ("make-editable", "object-mode", "relative-keys", "single-user")


class DIFFSPEAKER_OT_fix(bpy.types.Operator):
    """Mend what keeps the head from speaking"""

    bl_idname = "diffspeaker.fix"
    bl_label = "Fix"
    bl_options = {"REGISTER", "UNDO"}

    name: StringProperty(name="Fix", description="Which fix", options={"SKIP_SAVE"})
    head: StringProperty(name="Head", description="Name of the head", options={"SKIP_SAVE"})

    def execute(self, context: bpy.types.Context) -> set[str]:
        try:
            chosen = plan.find_head(context, self.head)
            mend = head.fix if self.name in HEAD_FIXES else diagnosis.fix
            mend(chosen, self.name)
            self._look_again(chosen)
        except LipSyncError as error:
            return refuse(self, error)
        return {"FINISHED"}

    def _look_again(self, chosen: bpy.types.Object) -> None:
        """Show what is left to mend, or that all is well."""
        placed = queue.last()
        if placed is None or placed.applied is None or placed.head != chosen.name:
            status.say("Fixed")
            return
        findings = diagnosis.verify(chosen, placed.applied)
        queue.show_placed(placed.with_findings(findings))


class DIFFSPEAKER_OT_make_editable(bpy.types.Operator):
    """Make a linked head local to this file, so that it can carry shape keys"""

    bl_idname = "diffspeaker.make_editable"
    bl_label = "Make Head Editable"
    bl_options = {"REGISTER", "UNDO"}

    head: StringProperty(name="Head", description="Name of the head", options={"SKIP_SAVE"})

    def execute(self, context: bpy.types.Context) -> set[str]:
        try:
            chosen = plan.find_head(context, self.head)
            head.fix(chosen, "make-editable")
        except LipSyncError as error:
            return refuse(self, error)
        status.say(f"“{chosen.name}” can be animated now")
        return {"FINISHED"}


class DIFFSPEAKER_OT_adjust_all(bpy.types.Operator):
    """Give every line on this head the live controls of the chosen one"""

    bl_idname = "diffspeaker.adjust_all"
    bl_label = "Use for All Lines"
    bl_options = {"REGISTER", "UNDO"}

    head: StringProperty(name="Head", description="Name of the head", options={"SKIP_SAVE"})

    def execute(self, context: bpy.types.Context) -> set[str]:
        try:
            count = live.adjust_all(plan.find_head(context, self.head))
        except LipSyncError as error:
            return refuse(self, error)
        status.say(f"{count} lines use these live controls now")
        return {"FINISHED"}


_CLASSES = (DIFFSPEAKER_OT_fix, DIFFSPEAKER_OT_make_editable, DIFFSPEAKER_OT_adjust_all)

register, unregister = bpy.utils.register_classes_factory(_CLASSES)
