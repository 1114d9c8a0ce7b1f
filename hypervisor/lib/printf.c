/* Formatting into a buffer. No floating point: Croft has none. */
#include "lib/printf.h"

#include "lib/string.h"

struct output {
    char *buf;
    size_t size, length;
};
struct format {
    bool left, zero, alternate, plus, space, upper;
    int width, precision;
}; /* precision -1: none given */

static void put(struct output *o, char c)
{
    if (o->length + 1 < o->size)
        o->buf[o->length] = c;
    o->length++;
}

static void put_repeated(struct output *o, char c, int n)
{
    for (; n > 0; n--)
        put(o, c);
}

static void put_text(struct output *o, const struct format *f, const char *text, size_t n)
{
    int pad = f->width > 0 && (size_t)f->width > n ? f->width - (int)n : 0;

    if (!f->left)
        put_repeated(o, ' ', pad);
    for (size_t i = 0; i < n; i++)
        put(o, text[i]);
    if (f->left)
        put_repeated(o, ' ', pad);
}

static void put_number(struct output *o, const struct format *f, uint64_t value, bool negative, unsigned base)
{
    char digits[24], prefix[3];
    const char *alphabet = f->upper ? "0123456789ABCDEF" : "0123456789abcdef";
    int count = 0, prefix_length = 0, zeros, pad;

    if (f->alternate && base == 16 && value) {
        prefix[prefix_length++] = '0';
        prefix[prefix_length++] = f->upper ? 'X' : 'x';
    } else if (negative || f->plus || f->space) {
        prefix[prefix_length++] = negative ? '-' : f->plus ? '+' : ' ';
    }
    for (; value; value /= base)
        digits[count++] = alphabet[value % base];
    if (!count && f->precision != 0)
        digits[count++] = '0';
    zeros = f->precision > count ? f->precision - count : 0;
    pad = f->width - prefix_length - zeros - count;
    if (f->zero && !f->left && f->precision < 0 && pad > 0) {
        zeros += pad;
        pad = 0;
    }
    if (!f->left)
        put_repeated(o, ' ', pad);
    for (int i = 0; i < prefix_length; i++)
        put(o, prefix[i]);
    put_repeated(o, '0', zeros);
    while (count)
        put(o, digits[--count]);
    if (f->left)
        put_repeated(o, ' ', pad);
}

static int read_decimal(const char **fmt)
{
    int n = 0;

    for (; **fmt >= '0' && **fmt <= '9'; (*fmt)++)
        n = n < 100000 ? n * 10 + **fmt - '0' : n;
    return n;
}

/* Flags, width and precision; leaves *fmt at the length modifier. */
static struct format read_format(const char **fmt, va_list *ap)
{
    struct format f = {.precision = -1};

    for (;; (*fmt)++) {
        if (**fmt == '-')
            f.left = true;
        else if (**fmt == '0')
            f.zero = true;
        else if (**fmt == '#')
            f.alternate = true;
        else if (**fmt == '+')
            f.plus = true;
        else if (**fmt == ' ')
            f.space = true;
        else
            break;
    }
    if (**fmt == '*') {
        (*fmt)++;
        f.width = va_arg(*ap, int);
        if (f.width < 0) {
            f.left = true;
            f.width = -f.width;
        }
    } else {
        f.width = read_decimal(fmt);
    }
    if (**fmt == '.') {
        (*fmt)++;
        if (**fmt == '*') {
            (*fmt)++;
            f.precision = va_arg(*ap, int);
        } else {
            f.precision = read_decimal(fmt);
        }
    }
    return f;
}

int vsnprintf(char *buf, size_t size, const char *fmt, va_list args)
{
    struct output o = {buf, size, 0};
    va_list ap;

    va_copy(ap, args);
    for (; *fmt; fmt++) {
        if (*fmt != '%') {
            put(&o, *fmt);
            continue;
        }
        fmt++;
        struct format f = read_format(&fmt, &ap);
        bool is_long = false;

        for (; *fmt == 'l' || *fmt == 'z' || *fmt == 'h'; fmt++)
            is_long |= *fmt != 'h'; /* narrower arguments arrive as int */
        switch (*fmt) {
        case 'd':
        case 'i': {
            int64_t v = is_long ? va_arg(ap, long) : va_arg(ap, int);

            put_number(&o, &f, v < 0 ? -(uint64_t)v : (uint64_t)v, v < 0, 10);
            break;
        }
        case 'u':
        case 'x':
        case 'X': {
            uint64_t v = is_long ? va_arg(ap, unsigned long) : va_arg(ap, unsigned);

            f.upper = *fmt == 'X';
            f.plus = f.space = false;
            put_number(&o, &f, v, false, *fmt == 'u' ? 10 : 16);
            break;
        }
        case 'p':
            f.alternate = f.zero = true;
            f.width = 18; /* 0x and 16 digits */
            put_number(&o, &f, (uintptr_t)va_arg(ap, void *), false, 16);
            break;
        case 's': {
            const char *s = va_arg(ap, const char *);

            if (!s)
                s = "(null)";
            put_text(&o, &f, s, f.precision >= 0 ? strnlen(s, f.precision) : strlen(s));
            break;
        }
        case 'c': {
            char c = (char)va_arg(ap, int);

            put_text(&o, &f, &c, 1);
            break;
        }
        case '%':
            put(&o, '%');
            break;
        case 0:
            fmt--; /* a lone % at the end */
            break;
        default: /* shown as it stands, so that the mistake is seen */
            put(&o, '%');
            put(&o, *fmt);
        }
    }
    va_end(ap);
    if (size)
        buf[min(o.length, size - 1)] = 0;
    return (int)o.length;
}

int snprintf(char *buf, size_t size, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    int n = vsnprintf(buf, size, fmt, ap);

    va_end(ap);
    return n;
}
