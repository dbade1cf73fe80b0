"""The LVM programs of simulated hosts, as ``lvm VERB ...`` and as ``VERB ...``: the uses that bricks need.

What they print and how they end was recorded from LVM 2.03.16 (``tests/recorded/lvm``). Questions are answered as LVM
itself does when it has no terminal: no. A use that is not known here fails with status 2 and says so.
"""

from __future__ import annotations

from collections.abc import Sequence

from csi.core.command import Result
from csi.hosts.simulated import lvm_groups, lvm_volumes
from csi.hosts.simulated import lvm_reports as reports
from csi.hosts.simulated.lvm import RefusedByLvm
from csi.hosts.simulated.lvm_call import Call, UnknownUse, Verb
from csi.hosts.simulated.machine import Machine
from csi.hosts.simulated.programs import Program, unknown


def _report(call: Call, kind: str) -> None:
    """With ``--reportformat json`` or ``--noheadings`` only. Without ``--units`` sizes are in MiB: LVM's own vary."""
    as_json = call.has("reportformat")
    if (as_json and call.value("reportformat") != "json") or not (as_json or call.has("noheadings")):
        raise UnknownUse
    unit = call.value("units") if call.has("units") else "m"
    if unit not in reports.UNITS:
        raise UnknownUse
    sizes = reports.sizes_in(unit, suffix=not call.has("nosuffix"))
    words = call.value("options") if call.has("options") else "+"
    usual = reports.DEFAULT_FIELDS[kind]
    fields = [*(usual if words.startswith("+") else ()), *filter(None, words.lstrip("+").split(","))]
    match kind:
        case "pv":
            rows, said = reports.physical_rows(call.manager, call.operands, sizes)
        case "vg":
            rows, said = reports.group_rows(call.manager, call.operands, sizes)
        case _:
            rows, said = reports.volume_rows(call.manager, call.operands, sizes, hidden=call.has("all"))
    if any(name not in row for row in rows for name in fields):
        raise UnknownUse
    call.printed.append(reports.printed(reports.Layout(kind, tuple(fields), as_json), rows))
    if said:
        raise RefusedByLvm(*said)


def _vgdisplay(call: Call) -> None:
    if not call.has("colon"):
        raise UnknownUse
    call.printed.append(reports.colons(call.manager, call.manager.group(call.operand())))


_REPORT = "a|all o|options= reportformat= units= nosuffix noheadings"
_RESIZE = "A|autobackup= L|size= poolmetadatasize="

VERBS: dict[str, Verb] = {
    "pvcreate": Verb(lvm_groups.pvcreate, "metadatasize= dataalignment="),
    "pvremove": Verb(lvm_groups.pvremove, ""),
    "vgcreate": Verb(lvm_groups.vgcreate, "A|autobackup= s|physicalextentsize= metadatasize= dataalignment= addtag="),
    "vgremove": Verb(lvm_groups.vgremove, ""),
    "vgchange": Verb(lvm_groups.vgchange, "A|autobackup= addtag= deltag="),
    "vgdisplay": Verb(_vgdisplay, "c|colon"),
    "lvcreate": Verb(
        lvm_volumes.lvcreate,
        "A|autobackup= poolmetadatasize= c|chunksize= L|size= T|thin V|virtualsize= n|name= addtag= s|snapshot "
        "k|setactivationskip=",
    ),
    "lvchange": Verb(lvm_volumes.lvchange, "A|autobackup= addtag= deltag= a|activate= K|ignoreactivationskip"),
    "lvextend": Verb(lvm_volumes.lvextend, _RESIZE),
    "lvresize": Verb(lvm_volumes.lvresize, _RESIZE),
    "lvremove": Verb(lvm_volumes.lvremove, "A|autobackup="),
    "pvs": Verb(lambda call: _report(call, "pv"), _REPORT),
    "vgs": Verb(lambda call: _report(call, "vg"), _REPORT),
    "lvs": Verb(lambda call: _report(call, "lv"), _REPORT),
}


def _lvm(machine: Machine, argv: Sequence[str], stdin: str) -> Result:
    """``[/usr/sbin/]lvm VERB ...`` or ``[/usr/sbin/]VERB ...``."""
    words = list(argv[1:]) if argv[0].rpartition("/")[2] == "lvm" else [argv[0].rpartition("/")[2], *argv[1:]]
    verb = VERBS.get(words[0]) if words else None
    if verb is None:
        return unknown(argv)
    status = 0
    try:
        call = Call(machine.lvm, *verb.parse(words[1:]))
        try:
            verb.act(call)
        except RefusedByLvm as refusal:
            call.complain(*refusal.lines)
            call.changed = call.changed or refusal.committed
            status = refusal.status
    except UnknownUse:
        return unknown(argv)
    machine.lvm.turn += call.changed
    if call.changed and call.options.get("autobackup", ["y"])[-1] == "n":
        call.complain("WARNING: This metadata update is NOT backed up.")
    return Result(status, "".join(call.printed), "".join(call.complaints))


LVM_PROGRAMS: dict[str, Program] = {
    directory + name: _lvm for directory in ("", "/usr/sbin/") for name in ("lvm", *VERBS)
}
