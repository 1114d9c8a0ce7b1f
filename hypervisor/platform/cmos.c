/* The CMOS clock (Motorola MC146818): ports 0x70 (index) and 0x71 (data). */
#include "platform/timers.h"

#include "cpu/instr.h"
#include "lib/log.h"
#include "lib/string.h"
#include "platform/acpi.h"

#define INDEX 0x70
#define DATA 0x71
#define REG_SECOND 0x00
#define REG_MINUTE 0x02
#define REG_HOUR 0x04
#define REG_DAY 0x07
#define REG_MONTH 0x08
#define REG_YEAR 0x09
#define REG_STATUS_A 0x0a
#define REG_STATUS_B 0x0b
#define STATUS_A_UPDATING 0x80
#define STATUS_B_24_HOURS 0x02
#define STATUS_B_BINARY 0x04
#define HOUR_PM 0x80
#define UPDATE_TRIES 200000 /* an update takes 2 ms at most */
#define READ_TRIES 8

static uint8_t cmos_register(uint8_t reg)
{
    outb(INDEX, reg);
    return inb(DATA);
}

static unsigned number(uint8_t value, const struct cmos_time *raw)
{
    return raw->status_b & STATUS_B_BINARY ? value : (value >> 4) * 10U + (value & 15);
}

static uint64_t days_before(unsigned year, unsigned month)
{
    static const uint16_t before[12] = {0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334};
    unsigned y = year - 1;
    bool leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);

    return 365UL * (year - 1970) + (y / 4 - y / 100 + y / 400) - (1969 / 4 - 1969 / 100 + 1969 / 400) +
           before[month - 1] + (leap && month > 2);
}

uint64_t cmos_decode(const struct cmos_time *raw)
{
    unsigned second = number(raw->second, raw), minute = number(raw->minute, raw), day = number(raw->day, raw);
    unsigned month = number(raw->month, raw), year = number(raw->year, raw), century = number(raw->century, raw);
    unsigned hour = number(raw->hour & ~HOUR_PM, raw);

    if (!(raw->status_b & STATUS_B_24_HOURS)) {
        if (hour < 1 || hour > 12)
            return 0;
        hour = hour % 12 + (raw->hour & HOUR_PM ? 12 : 0);
    }
    if (second > 59 || minute > 59 || hour > 23 || day < 1 || day > 31 || month < 1 || month > 12 || year > 99)
        return 0;
    if (century >= 19 && century <= 29)
        year += century * 100;
    else
        year += year < 70 ? 2000 : 1900;
    if (year < 1970)
        return 0;
    return ((days_before(year, month) + day - 1) * 24 + hour) * 3600 + minute * 60 + second;
}

static void read_once(struct cmos_time *t)
{
    for (unsigned tries = UPDATE_TRIES; tries && cmos_register(REG_STATUS_A) & STATUS_A_UPDATING; tries--)
        cpu_relax();
    t->second = cmos_register(REG_SECOND);
    t->minute = cmos_register(REG_MINUTE);
    t->hour = cmos_register(REG_HOUR);
    t->day = cmos_register(REG_DAY);
    t->month = cmos_register(REG_MONTH);
    t->year = cmos_register(REG_YEAR);
    t->century = acpi_info.century ? cmos_register(acpi_info.century & 0x7f) : 0;
    t->status_b = cmos_register(REG_STATUS_B);
}

uint64_t cmos_read_seconds(void)
{
    struct cmos_time a, b;
    uint64_t seconds;

    read_once(&b);
    for (unsigned i = 0; i < READ_TRIES; i++) { /* twice the same: no update came in between */
        a = b;
        read_once(&b);
        if (memcmp(&a, &b, sizeof(a)) == 0)
            break;
    }
    seconds = cmos_decode(&b);
    if (!seconds)
        log_warning("the CMOS clock shows no valid time (status B 0x%02x); the wall clock starts at 1970\n",
                    b.status_b);
    return seconds;
}
