// What differs between Node and a browser, and the rooms above need: hashes, turns of the event loop, native work on bytes, files,
// the disassembler, what the environment says. package.json's `imports` decides which of the two files beside this one it is.

export * from '#host';
