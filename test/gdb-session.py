"""Drives gdb through a boot that `bootscope gdb` holds, and prints what it saw as lines of JSON.

Run by gdb.test.ts: gdb -nx -batch -ex "python remote = '...'; root = '...'; places = {...}" -x gdb-session.py
"""

import sys

import gdb

sys.path.insert(0, root + "/test")
from gdb_tools import byte_at, number, prepare, refused, tell


def connect():
    gdb.execute("target remote " + remote)


prepare(root)
connect()
tell("entry")

# Stepping, and writing the instruction pointer in real mode.
gdb.execute("stepi 3")
tell("three steps")
gdb.execute("reverse-stepi 3")
tell("back at the entry")
gdb.execute("set $ip = $ip + 2")
tell("ip written", refused=refused("set $rip = 0x200000"))
gdb.execute("set $rip = $rip - 2")
tell("rip written")

# The phases, by breakpoints at their linear addresses, software and hardware in turn.
for index, (name, address) in enumerate(places):
    gdb.execute("%s *%s" % ("break" if index % 2 == 0 else "hbreak", address))
    gdb.execute("continue")
    tell(name, info=gdb.execute("info threads", to_string=True))
    if name == "startup_32":
        gdb.execute("bootscope-next-mode")
        tell("into compat32")
        gdb.execute("bootscope-next-mode")
        tell("into long64")
        gdb.execute("reverse-stepi")
        tell("before long64")
        # The far return that goes there reads the stack.
        gdb.execute("rwatch *(unsigned int *) %d" % (number("$rsp") + 4))
        gdb.execute("continue")
        tell("behind the read")
        gdb.execute("reverse-continue")
        tell("before the read")
        gdb.execute("delete")

gdb.execute("delete")

# Backwards from the kernel's entry to the last write of a byte of the page tables.
byte = number("$cr3") + 1
before = byte_at(byte)
gdb.execute("watch *(unsigned char *) %d" % byte)
gdb.execute("reverse-continue")
tell("last write", byte=hex(byte), after=before, value=byte_at(byte))
gdb.execute("stepi")
tell("behind the write", value=byte_at(byte))
gdb.execute("delete")

# The first access to that byte from startup_32 on.
gdb.execute("bootscope-goto startup_32")
gdb.execute("awatch *(unsigned char *) %d" % byte)
gdb.execute("continue")
tell("first access")
gdb.execute("delete")
gdb.execute("bootscope-goto kernel")

# Memory that the debugger writes, and monitor commands.
gdb.execute("set *(unsigned int *) 0x500 = 0x11223344")
written = number("*(unsigned int *) 0x500")
monitor = {
    name.split(" 0x")[0]: gdb.execute("monitor " + name, to_string=True)
    for name in ("phases", "regions", "events mode", "where", "symbols", "show e820", "nonsense", "who 0x%x" % byte, "readers 0x%x" % (byte - 1))
}
tell("monitor", written=written, monitor=monitor)
gdb.execute("bootscope-goto startup_32")
tell("gone to startup_32")
gdb.execute("reverse-continue")
tell("beginning")

# Gone and back again: what the first connection had set is forgotten.
gdb.execute("break *%s" % places[0][1])
gdb.execute("detach")
gdb.execute("delete")
connect()
tell("connected again")
gdb.execute("continue")
tell("the end")
gdb.execute("kill")
