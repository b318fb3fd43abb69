/* SPDX-License-Identifier: Apache-2.0 */
#include "capture/capture.h"
