/* Names of Croft's own functions, for call traces: a table that tools/gen-symbols makes from the linked image. */
#ifndef LIB_SYMBOLS_H
#define LIB_SYMBOLS_H

/* The function that 'addr' is in, and how far in; null if addr is not in Croft's text. */
const char *symbol_lookup(unsigned long addr, unsigned long *offset);

#endif
