// What INT 13h says in AH (IBM PS/2 BIOS interface, INT 13h).

export const STATUS_OK = 0x00;
export const STATUS_BAD_PARAMETER = 0x01;
export const STATUS_WRITE_PROTECTED = 0x03;
export const STATUS_SECTOR_NOT_FOUND = 0x04;
export const STATUS_DISK_CHANGED = 0x06;
export const STATUS_DMA_BOUNDARY = 0x09;
