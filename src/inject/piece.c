/* SPDX-License-Identifier: Apache-2.0 */
/* What is put into a pod: two init containers, the second of which stays, and two volumes of the second's own. */
#include <string.h>

#include "inject/internal.h"

const char *const container_names[2] = { "weir-init", "weir-proxy" };
const char *const volume_names[2] = { "weir-token", "weir-state" };

/* In the volume that the two share with nobody; /etc/resolv.conf they share with the whole pod. */
#define RESOLVERS "/var/lib/weir/resolv.conf"

static void put_quoted(struct weir_buf *buf, const char *text)
{
        struct weir_json json = { .buf = buf };

        weir_json_string(&json, NULL, text);
}

static void put_image(struct weir_buf *buf, const struct weir_inject_options *options)
{
        weir_buf_puts(buf, "  image: ");
        put_quoted(buf, options->image);
        weir_buf_printf(buf, "\n  imagePullPolicy: %s\n", options->pull_policy);
}

/* allowPrivilegeEscalation: a process that is not root gets the one capability from its file, which this must allow. */
static void put_security(struct weir_buf *buf, uint32_t uid)
{
        weir_buf_printf(buf,
                        "  securityContext:\n"
                        "    allowPrivilegeEscalation: true\n"
                        "    capabilities:\n"
                        "      add:\n"
                        "      - NET_ADMIN\n"
                        "      drop:\n"
                        "      - ALL\n"
                        "    privileged: false\n"
                        "    readOnlyRootFilesystem: true\n"
                        "    runAsGroup: %u\n"
                        "    runAsNonRoot: true\n"
                        "    runAsUser: %u\n"
                        "    seccompProfile:\n"
                        "      type: RuntimeDefault\n",
                        uid, uid);
}

static void put_argument(struct weir_buf *buf, const char *option, const char *value)
{
        if (!value)
                return;
        weir_buf_printf(buf, "  - %s\n  - ", option);
        put_quoted(buf, value);
        weir_buf_putc(buf, '\n');
}

static void put_field(struct weir_buf *buf, const char *name, const char *path)
{
        weir_buf_printf(buf,
                        "  - name: %s\n"
                        "    valueFrom:\n"
                        "      fieldRef:\n"
                        "        fieldPath: %s\n",
                        name, path);
}

static void put_init(struct weir_buf *buf, const struct pod *pod)
{
        weir_buf_printf(buf, "- name: %s\n", container_names[0]);
        put_image(buf, pod->in->options);
        weir_buf_puts(buf, "  args:\n  - init\n");
        /* The node probes from its own address or, on a bridge, from the gateway's. */
        put_argument(buf, "--admit", "$(HOST_IP)");
        put_argument(buf, "--keep-resolvers", RESOLVERS);
        if (pod->include_ranges && !weir_streq(pod->include_ranges, "*"))
                put_argument(buf, "--include-ranges", pod->include_ranges);
        put_argument(buf, "--exclude-ranges", pod->exclude_ranges);
        put_argument(buf, "--include-ports", pod->include_ports);
        put_argument(buf, "--exclude-ports", pod->exclude_ports);
        weir_buf_puts(buf, "  env:\n");
        put_field(buf, "HOST_IP", "status.hostIP");
        put_security(buf, pod->in->options->uid);
        weir_buf_printf(buf, "  volumeMounts:\n  - name: %s\n    mountPath: /var/lib/weir\n", volume_names[1]);
}

static void put_probe(struct weir_buf *buf, const char *kind, const char *path, unsigned period, unsigned failures)
{
        weir_buf_printf(buf,
                        "  %s:\n"
                        "    failureThreshold: %u\n"
                        "    httpGet:\n"
                        "      path: %s\n"
                        "      port: 15020\n"
                        "    periodSeconds: %u\n",
                        kind, failures, path, period);
}

static void put_proxy(struct weir_buf *buf, const struct weir_inject_options *options)
{
        weir_buf_printf(buf, "- name: %s\n", container_names[1]);
        put_image(buf, options);
        weir_buf_puts(buf, "  restartPolicy: Always\n  args:\n  - proxy\n");
        put_argument(buf, "--resolvers", RESOLVERS);
        weir_buf_puts(buf, "  env:\n");
        put_field(buf, "POD_NAME", "metadata.name");
        put_field(buf, "POD_NAMESPACE", "metadata.namespace");
        weir_buf_puts(buf, "  - name: XDG_STATE_HOME\n    value: /var/lib/weir\n");
        put_probe(buf, "startupProbe", "/ready", 1, 600);
        put_probe(buf, "readinessProbe", "/ready", 5, 3);
        put_probe(buf, "livenessProbe", "/healthz", 10, 6);
        weir_buf_puts(buf, "  resources:\n"
                           "    requests:\n"
                           "      cpu: 10m\n"
                           "      memory: 16Mi\n");
        put_security(buf, options->uid);
        weir_buf_printf(buf,
                        "  volumeMounts:\n"
                        "  - name: %s\n"
                        "    mountPath: /var/run/secrets/kubernetes.io/serviceaccount\n"
                        "    readOnly: true\n"
                        "  - name: %s\n"
                        "    mountPath: /var/lib/weir\n",
                        volume_names[0], volume_names[1]);
}

char *init_containers(const struct pod *pod)
{
        weir_auto(buf) struct weir_buf buf = { 0 };

        put_init(&buf, pod);
        put_proxy(&buf, pod->in->options);
        return weir_buf_take(&buf);
}

/* The token is the pod's service account's, asked for by name: a pod may have switched the automatic one off. */
char *volumes(void)
{
        weir_auto(buf) struct weir_buf buf = { 0 };

        weir_buf_printf(&buf,
                        "- name: %s\n"
                        "  projected:\n"
                        "    sources:\n"
                        "    - serviceAccountToken:\n"
                        "        expirationSeconds: 3607\n"
                        "        path: token\n"
                        "    - configMap:\n"
                        "        items:\n"
                        "        - key: ca.crt\n"
                        "          path: ca.crt\n"
                        "        name: kube-root-ca.crt\n"
                        "    - downwardAPI:\n"
                        "        items:\n"
                        "        - fieldRef:\n"
                        "            fieldPath: metadata.namespace\n"
                        "          path: namespace\n"
                        "- name: %s\n"
                        "  emptyDir: {}\n",
                        volume_names[0], volume_names[1]);
        return weir_buf_take(&buf);
}
