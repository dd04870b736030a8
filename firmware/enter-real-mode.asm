; From Unicorn's reset state into real mode: loads the segments that the host asked for and jumps to CS:IP.
; Changes EAX, ECX, EDX, ESP and the flags; the host sets them once the jump has been made.

bits 64
        jmp     strict near leave_long_mode

        align   8
; Parameters, at offset 8, filled in by the host:
ask_ip: dw      0
ask_cs: dw      0
ask_ss: dw      0
ask_ds: dw      0
ask_es: dw      0
ask_fs: dw      0
ask_gs: dw      0
        align   4
vectors:                            ; IDTR: the interrupt vector table at 0
        dw      0x3ff
        dq      0

%include "leave-long-mode.inc"

bits 32
protected:
        jmp     0x18:sixteen        ; the segment's base is BASE
bits 16
sixteen:
        mov     ax, 0x20            ; 64 KiB limits, as real mode has them
        mov     ds, ax
        mov     es, ax
        mov     fs, ax
        mov     gs, ax
        mov     ss, ax
        mov     eax, cr0
        and     eax, ~CR0_PE
        mov     cr0, eax
        jmp     (BASE >> 4):real
real:
        o32 lidt [cs:vectors]
        mov     ss, [cs:ask_ss]
        mov     ds, [cs:ask_ds]
        mov     es, [cs:ask_es]
        mov     fs, [cs:ask_fs]
        mov     gs, [cs:ask_gs]
        jmp     far [cs:ask_ip]
