/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the stub does in C: decompress the kernel, put its segments in place, tell its entry. */
#include "../decompress/decompress.h"

extern const uint8_t input_data[];
extern const uint8_t input_data_end[];

#define KERNEL 0x100000
#define LOAD_PHYSICAL_ADDR 0x1000000
#define PT_LOAD 1
#define MAX_PROGRAM_HEADERS 8
#define SERIAL_PORT 0x3f8
#define SERIAL_READY 0x20

static inline void out_byte(uint8_t value, uint16_t port)
{
	asm volatile("outb %0, %1" : : "a"(value), "Nd"(port));
}

static inline uint8_t in_byte(uint16_t port)
{
	uint8_t value;

	asm volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
	return value;
}

void fail(const char *reason)
{
	for (; *reason; reason++) {
		while (!(in_byte(SERIAL_PORT + 5) & SERIAL_READY))
			;
		out_byte(*reason, SERIAL_PORT);
	}
	for (;;)
		asm volatile("cli; hlt");
}

void *memcpy(void *to, const void *from, size_t size)
{
	void *result = to;

	asm volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(size) : : "memory");
	return result;
}

void *memmove(void *to, const void *from, size_t size)
{
	uint8_t *target = to;
	const uint8_t *source = from;

	if (target <= source || target >= source + size)
		return memcpy(to, from, size);
	while (size--)
		target[size] = source[size];
	return to;
}

void *memset(void *to, int value, size_t size)
{
	void *result = to;

	asm volatile("rep stosb" : "+D"(to), "+c"(size) : "a"(value) : "memory");
	return result;
}

static size_t decompress_payload(uint8_t *output)
{
	size_t size = input_data_end - input_data, expected = little32(input_data + size - 4);

	if (decompress(input_data, size, output, expected) != expected)
		fail("the payload has not the length that its last 4 bytes tell");
	return expected;
}

#ifdef ZIMAGE

struct move_parameters;

int decompress_kernel(struct move_parameters *move, void *boot_params)
{
	(void)move;
	(void)boot_params;
	decompress_payload((uint8_t *)KERNEL);
	return 0;
}

#else

#ifdef __x86_64__
typedef uint64_t word;
#else
typedef uint32_t word;
#endif

struct elf_header {
	uint8_t ident[16];
	uint16_t type, machine;
	uint32_t version;
	word entry, program_headers, section_headers;
	uint32_t flags;
	uint16_t header_size, program_header_size, program_header_count;
};

#ifdef __x86_64__
struct program_header {
	uint32_t type, flags;
	word offset, vaddr, paddr, filesz, memsz, align;
};
#else
struct program_header {
	uint32_t type, offset, vaddr, paddr, filesz, memsz, flags, align;
};
#endif

void *extract_kernel(void *boot_params, uint8_t *output)
{
	struct program_header headers[MAX_PROGRAM_HEADERS];
	struct elf_header elf;
	int i;

	(void)boot_params;
	decompress_payload(output);
	memcpy(&elf, output, sizeof(elf));
	if (little32(elf.ident) != 0x464c457f || elf.program_header_count > MAX_PROGRAM_HEADERS ||
	    elf.program_header_size != sizeof(headers[0]))
		fail("the payload is not an ELF file as expected");
	/* The first segment overwrites the headers. */
	memcpy(headers, output + elf.program_headers, elf.program_header_count * sizeof(headers[0]));
	for (i = 0; i < elf.program_header_count; i++)
		if (headers[i].type == PT_LOAD)
			memmove(output + (headers[i].paddr - LOAD_PHYSICAL_ADDR), output + headers[i].offset,
				headers[i].filesz);
	return output + (elf.entry - LOAD_PHYSICAL_ADDR);
}

#endif
