"""Drives gdb through a boot that `bootscope gdb` holds, and prints what it saw as lines of JSON.

Run by gdb.test.ts: gdb -nx -batch -ex "python port = 1234; root = '...'; places = {...}" -x gdb-session.py
"""

import json

import gdb

NAMES = "rax rbx rcx rdx rsi rdi rbp rsp r8 r9 r10 r11 r12 r13 r14 r15 cs ds es fs gs ss cr0 cr3 cr4 efer".split()


def number(expression):
    return int(gdb.parse_and_eval("(unsigned long) (%s)" % expression))


def tell(what, **more):
    registers = {name: hex(number("$" + name)) for name in NAMES}
    gdb.write(
        "SEEN "
        + json.dumps(
            {
                "what": what,
                "rip": hex(number("$rip")),
                "ip": hex(number("$ip")),
                "mode": str(gdb.parse_and_eval("$mode")),
                "instructions": number("$instructions"),
                "registers": registers,
                "text": gdb.execute("x/i $rip", to_string=True).split(":", 1)[1].strip(),
                **more,
            }
        )
        + "\n"
    )


def refused(command):
    try:
        gdb.execute(command, to_string=True)
    except gdb.error as error:
        return str(error)
    return None


def connect():
    gdb.execute("target remote 127.0.0.1:%d" % port)


for setting in ("pagination off", "confirm off", "width 0"):
    gdb.execute("set " + setting)
# Else gdb 13 never sends a reverse-continue that Python asks for.
gdb.execute("maintenance set target-async off")
gdb.execute("source %s/gdb/bootscope.py" % root)

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
    if name == "extract_kernel" and number("$mode") == 4:
        # The last byte of the first page table entry that the root has.
        entry = number("$cr3")

gdb.execute("delete")

# Backwards from the kernel's entry to the last write of a byte of the page tables.
byte = number("$cr3") + 1
before = number("*(unsigned char *) %d" % byte)
gdb.execute("watch *(unsigned char *) %d" % byte)
gdb.execute("reverse-continue")
tell("last write", byte=hex(byte), after=before, value=number("*(unsigned char *) %d" % byte))
gdb.execute("stepi")
tell("behind the write", value=number("*(unsigned char *) %d" % byte))
gdb.execute("delete")

# Memory that the debugger writes, and monitor commands.
gdb.execute("set *(unsigned int *) 0x500 = 0x11223344")
monitor = {
    name: gdb.execute("monitor " + name, to_string=True)
    for name in ("phases", "regions", "events mode", "where", "symbols", "show e820", "nonsense")
}
tell("monitor", written=number("*(unsigned int *) 0x500"), monitor=monitor)
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
