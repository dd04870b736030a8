"""For gdb 13 and later, connected to `bootscope gdb`: shows 16- and 32-bit code as what it is.

    (gdb) source gdb/bootscope.py

gdb believes in a 64-bit CPU for the whole connection. This file asks bootscope for the text of each instruction while the CPU is in
another mode, and adds the commands

    bootscope-goto PLACE    go to a place in the boot, forward or back, and let gdb see it
    bootscope-next-mode     step instructions until the mode of the CPU changes
"""

import gdb
import gdb.disassembler


def cpu_mode():
    """The name of the CPU's mode; None where the target is not bootscope, or nothing is connected."""
    try:
        return str(gdb.selected_frame().read_register("mode"))
    except (gdb.error, ValueError):
        return None


class BootscopeDisassembler(gdb.disassembler.Disassembler):
    """Outside of long mode the text comes from bootscope, which knows the mode."""

    def __init__(self):
        super().__init__("bootscope")

    def __call__(self, info):
        if cpu_mode() in (None, "long64"):
            return None
        answer = gdb.execute("monitor disassemble 0x%x" % info.address, to_string=True)
        length, _, text = answer.strip().partition(" ")
        if not length.isdigit():
            return None
        return gdb.disassembler.DisassemblerResult(int(length), text)


class Goto(gdb.Command):
    """bootscope-goto PLACE: a phase, an address 0x..., a count of instructions #N, or an event such as bios:3."""

    def __init__(self):
        super().__init__("bootscope-goto", gdb.COMMAND_RUNNING)

    def invoke(self, argument, from_tty):
        answer = gdb.execute("monitor goto " + argument, to_string=True)
        gdb.execute("maintenance flush register-cache", to_string=True)
        gdb.execute("maintenance flush dcache", to_string=True)
        gdb.write(answer.splitlines()[0] + "\n")


class NextMode(gdb.Command):
    """bootscope-next-mode: step instructions until the mode of the CPU changes."""

    def __init__(self):
        super().__init__("bootscope-next-mode", gdb.COMMAND_RUNNING)

    def invoke(self, argument, from_tty):
        before = cpu_mode()
        gdb.execute("monitor goto mode:%d" % (modes_so_far() + 1), to_string=True)
        gdb.execute("maintenance flush register-cache", to_string=True)
        gdb.execute("maintenance flush dcache", to_string=True)
        gdb.execute("stepi", to_string=True)
        gdb.write("%s to %s\n" % (before, cpu_mode()))


def modes_so_far():
    """How many changes of the mode lie behind."""
    return len(gdb.execute("monitor events mode", to_string=True).splitlines())


gdb.disassembler.register_disassembler(BootscopeDisassembler())
Goto()
NextMode()
