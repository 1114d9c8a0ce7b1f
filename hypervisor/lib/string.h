/* The C library's string functions that Croft uses; semantics of ISO C (strlcpy of BSD). */
#ifndef LIB_STRING_H
#define LIB_STRING_H

#include "lib/types.h"

void *memcpy(void *to, const void *from, size_t n);
void *memmove(void *to, const void *from, size_t n);
void *memset(void *to, int c, size_t n);
int memcmp(const void *a, const void *b, size_t n);
void *memchr(const void *s, int c, size_t n);
size_t strlen(const char *s);
size_t strnlen(const char *s, size_t n);
int strcmp(const char *a, const char *b);
int strncmp(const char *a, const char *b, size_t n);
char *strchr(const char *s, int c);
char *strrchr(const char *s, int c);
char *strstr(const char *s, const char *sub);
size_t strlcpy(char *to, const char *from, size_t size);
/* Number in C notation (0x..., 0..., decimal); *end points behind what was read. */
unsigned long strtoul(const char *s, char **end, int base);

#endif
