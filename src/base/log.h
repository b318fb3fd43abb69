/* SPDX-License-Identifier: Apache-2.0 */
/* Diagnostics on standard error, "weir: TEXT". Library code logs at debug only; the command that decides logs the
 * rest. */
#pragma once

#include "base/cleanup.h"

enum weir_log_level { WEIR_LOG_ERROR, WEIR_LOG_WARNING, WEIR_LOG_INFO, WEIR_LOG_DEBUG, WEIR_LOG_COUNT };

void weir_log_set_level(enum weir_log_level level); /* default WARNING */
enum weir_log_level weir_log_get_level(void);
/* From here on a line that standard error does not take at once is lost, and the next one tells how many were: who
 * reads it, or does not, must not hold up the caller. The flags that others see on standard error stay as they are. */
void weir_log_never_block(void);
void weir_log(enum weir_log_level level, const char *format, ...) WEIR_PRINTF(2, 3);
