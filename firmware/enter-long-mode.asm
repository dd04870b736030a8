; From Unicorn's reset state into 64-bit mode with paging, as the 64-bit boot protocol demands it (boot.rst, "64-bit
; boot protocol"): the host's page tables and GDT, CS = 10h, data segments = 18h. Changes RAX, RSP.
; The page tables have to map this blob and the target to themselves.

BASE    equ     0x9c000             ; where the host puts the blob
MSR_EFER equ    0xc0000080

bits 64
        jmp     strict near start

        align   8
; Parameters, at offset 8, filled in by the host:
ask_rip: dq     0
ask_cr0: dq     0
ask_cr3: dq     0
ask_cr4: dq     0
ask_gdtr:
        dw      0
        dq      0
ask_cs: dq      0
ask_ds: dd      0
ask_efer: dd    0

start:
        mov     ecx, MSR_EFER
        xor     edx, edx
        mov     eax, [rel ask_efer]
        wrmsr
        mov     rax, [rel ask_cr4]
        mov     cr4, rax
        mov     rax, [rel ask_cr3]
        mov     cr3, rax
        mov     rax, [rel ask_cr0]
        mov     cr0, rax
        lgdt    [rel ask_gdtr]
        mov     eax, [rel ask_ds]
        mov     ds, ax
        mov     es, ax
        mov     fs, ax
        mov     gs, ax
        mov     ss, ax
        mov     esp, BASE + 0x1000
        push    qword [rel ask_cs]
        push    qword [rel ask_rip]
        retfq
