#ifndef FORMS_H
#define FORMS_H

#include "kit.h"

/* table: where the grant table's first frame is mapped, at TEST_VA2; version 1 */
void grant_forms(grant_entry_v1_t *table);

#endif
