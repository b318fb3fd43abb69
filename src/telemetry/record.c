/* SPDX-License-Identifier: Apache-2.0 */
#include "telemetry/record.h"
