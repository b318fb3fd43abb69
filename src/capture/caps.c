/* SPDX-License-Identifier: Apache-2.0 */
#include "capture/caps.h"

#include <cap-ng.h>
#include <errno.h>
#include <sys/prctl.h>

#include "base/err.h"
#include "base/gate.h"

int weir_caps_drop_all(struct weir_err *err)
{
        if (!WEIR_GATE(CAPABILITIES))
                return 0;
        capng_clear(CAPNG_SELECT_ALL);
        /* The bounding set and the securebits need CAP_SETPCAP, so they go first. */
        if (capng_apply(CAPNG_SELECT_BOUNDS) != 0 || capng_lock() != 0 || capng_apply(CAPNG_SELECT_ALL) != 0)
                return weir_err_set(err, WEIR_EUNSUPPORTED, "cannot drop capabilities in the sandbox");
        if (capng_get_caps_process() != 0 || capng_have_capabilities(CAPNG_SELECT_ALL) != CAPNG_NONE)
                return weir_err_set(err, WEIR_EUNSUPPORTED,
                                    "capabilities are left in the sandbox although they were dropped");
        return 0;
}

int weir_caps_pass_on(int capability)
{
        if (capng_get_caps_process() != 0 || capng_update(CAPNG_ADD, CAPNG_INHERITABLE, (unsigned)capability) != 0 ||
            capng_apply(CAPNG_SELECT_CAPS) != 0) {
                errno = EPERM;
                return -1;
        }
        return prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, (unsigned long)capability, 0UL, 0UL);
}

int weir_caps_raise(int capability)
{
        if (capng_get_caps_process() != 0 || !capng_have_capability(CAPNG_PERMITTED, (unsigned)capability) ||
            capng_update(CAPNG_ADD, CAPNG_EFFECTIVE, (unsigned)capability) != 0 || capng_apply(CAPNG_SELECT_CAPS) != 0)
                return -EPERM;
        return 0;
}

int weir_caps_keep_only(int capability, struct weir_err *err)
{
        if (prctl(PR_SET_NO_NEW_PRIVS, 1UL, 0UL, 0UL, 0UL) < 0)
                return weir_err_set(err, -errno, "cannot set no_new_privs");
        capng_clear(CAPNG_SELECT_ALL);
        if (capability >= 0)
                (void)capng_update(CAPNG_ADD, CAPNG_EFFECTIVE | CAPNG_PERMITTED, (unsigned)capability);
        /* The bounding set can be narrowed by CAP_SETPCAP only; with no_new_privs nothing comes from it any more. */
        (void)prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0UL, 0UL, 0UL);
        if (capng_apply(CAPNG_SELECT_CAPS) != 0)
                return weir_err_set(err, WEIR_EUNSUPPORTED, "cannot drop capabilities");
        return 0;
}
