/* A 16550 serial port (National Semiconductor PC16550D). */
#include "platform/serial.h"

#include "cpu/instr.h"

/* Registers: offset from the port */
#define DATA 0         /* divisor latch low with LCR_DLAB */
#define INTERRUPTS 1   /* divisor latch high with LCR_DLAB */
#define FIFO_CONTROL 2 /* write; read: interrupt identification */
#define LINE_CONTROL 3
#define MODEM_CONTROL 4
#define LINE_STATUS 5
#define SCRATCH 7

#define IER_RECEIVE 0x01
#define FCR_ENABLE_AND_CLEAR 0x07 /* on, both cleared, an interrupt from the first character on */
#define IIR_FIFO 0xc0             /* both bits: a working FIFO */
#define LCR_8N1 0x03
#define LCR_DLAB 0x80
#define MCR_DTR_RTS_OUT2 0x0b /* OUT2 connects the interrupt line */
#define LSR_DATA 0x01
#define LSR_EMPTY 0x20 /* transmitter holding register (or FIFO) */
#define BASE_RATE 115200
#define FIFO_SIZE 16
#define WAIT_TRIES 200000 /* 0.2 s and more: longer than 16 characters at 1200 baud take */

static uint16_t base;
static bool present, stuck;
static unsigned fifo_size = 1, room;

bool serial_init(uint16_t port, uint32_t baud)
{
    uint32_t divisor = baud ? BASE_RATE / baud : 0;

    base = port;
    outb(base + SCRATCH, 0x5a);
    if (inb(base + SCRATCH) != 0x5a && inb(base + LINE_STATUS) == 0xff)
        return false;
    outb(base + INTERRUPTS, 0);
    if (divisor && divisor <= 0xffff) {
        outb(base + LINE_CONTROL, LCR_DLAB | LCR_8N1);
        outb(base + DATA, (uint8_t)divisor);
        outb(base + INTERRUPTS, (uint8_t)(divisor >> 8));
    }
    outb(base + LINE_CONTROL, LCR_8N1);
    outb(base + FIFO_CONTROL, FCR_ENABLE_AND_CLEAR);
    outb(base + MODEM_CONTROL, MCR_DTR_RTS_OUT2);
    fifo_size = (inb(base + FIFO_CONTROL) & IIR_FIFO) == IIR_FIFO ? FIFO_SIZE : 1;
    room = 0;
    present = true;
    return true;
}

/* One look at the status for each FIFO full: under emulation each access costs. */
static bool wait_for_room(void)
{
    if (room)
        return true;
    /* A line that did not move once (flow control of a terminal that is gone) is looked at only once from then on. */
    for (unsigned tries = stuck ? 1 : WAIT_TRIES; tries; tries--) {
        if (inb(base + LINE_STATUS) & LSR_EMPTY) {
            stuck = false;
            room = fifo_size;
            return true;
        }
        cpu_relax();
    }
    stuck = true;
    return false;
}

void serial_write(const char *text, size_t n)
{
    if (!present)
        return;
    while (n-- && wait_for_room()) {
        outb(base + DATA, (uint8_t)*text++);
        room--;
    }
}

int serial_read(void)
{
    uint8_t status;

    if (!present)
        return -1;
    status = inb(base + LINE_STATUS);
    return status != 0xff && status & LSR_DATA ? inb(base + DATA) : -1;
}

void serial_enable_receive_interrupt(void)
{
    if (present)
        outb(base + INTERRUPTS, IER_RECEIVE);
}
