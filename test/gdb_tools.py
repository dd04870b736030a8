"""What the scripts share that gdb.test.ts has gdb run: looking at the machine, and telling of it in lines of JSON."""

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


def byte_at(address):
    return number("*(unsigned char *) %d" % address)


def prepare(root):
    for setting in ("pagination off", "confirm off", "width 0"):
        gdb.execute("set " + setting)
    # Else gdb 13 never sends a reverse-continue that Python asks for.
    gdb.execute("maintenance set target-async off")
    gdb.execute("source %s/gdb/bootscope.py" % root)
