/* Everything is linked into one image: no symbol needs the GOT. */
#pragma GCC visibility push(hidden)
