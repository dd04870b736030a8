; From Unicorn's reset state into 32-bit protected mode without paging, as the 32-bit boot protocol demands it
; (boot.rst, "32-bit boot protocol"): the host's GDT, CS = 10h, data segments = 18h. Changes EAX, ECX, EDX, ESP.

bits 64
        jmp     strict near leave_long_mode

        align   8
; Parameters, at offset 8, filled in by the host:
ask_eip: dd     0
ask_cs: dw      0x10
ask_gdtr:
        dw      0
        dd      0

%include "leave-long-mode.inc"

bits 32
protected:
        lgdt    [ask_gdtr + BASE]
        mov     eax, 0x18
        mov     ds, ax
        mov     es, ax
        mov     fs, ax
        mov     gs, ax
        mov     ss, ax
        jmp     far [ask_eip + BASE]
