/* See lib/symbols.h. */
#include "lib/symbols.h"
#include "lib/types.h"

/* Sorted by address: offset from __text_start, and of the name in symbol_names */
struct symbol {
    uint32_t offset, name;
};
extern const uint32_t symbol_table_count;
extern const struct symbol symbol_table[];
extern const char symbol_names[];
extern const char __text_start[], __text_end[]; /* linker script */

const char *symbol_lookup(unsigned long addr, unsigned long *offset)
{
    unsigned long at = addr - (unsigned long)__text_start;
    uint32_t low = 0, high = symbol_table_count;

    if (addr < (unsigned long)__text_start || addr >= (unsigned long)__text_end)
        return NULL;
    /* The last symbol not above 'at' is below 'high'. */
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;

        if (symbol_table[middle].offset <= at)
            low = middle + 1;
        else
            high = middle;
    }
    if (!high)
        return NULL;
    *offset = at - symbol_table[high - 1].offset;
    return symbol_names + symbol_table[high - 1].name;
}
