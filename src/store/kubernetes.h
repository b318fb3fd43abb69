/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A store in a Kubernetes API server: resources are objects of the cluster's custom resource definitions.
 *
 * Besides the operations of store.h this holds what only a cluster needs: laying down the definitions (weir install)
 * and writing what became of each resource into its status (weir controller).
 */
#pragma once

#include <stdbool.h>

#include "base/cleanup.h"

struct weir_buf;
struct weir_err;
struct weir_store;

/* @context: of the kubeconfig; NULL for the current one, or the pod's service account. Reads files, sends nothing. */
WEIR_MUST int weir_kubernetes_open(const char *context, struct weir_store **ret_store, struct weir_err *err);
WEIR_MUST int weir_kubernetes_namespace(const char *context, char **ret_namespace, struct weir_err *err);
/* Whether this process is in a pod with a service account. */
bool weir_kubernetes_in_pod(void);
/* Whether @store is one of these: what follows takes no other. */
bool weir_kubernetes_is(const struct weir_store *store);

enum weir_kube_installed {
        WEIR_KUBE_CREATED,
        WEIR_KUBE_CONFIGURED, /* it was there and is Weir's: brought up to date */
        WEIR_KUBE_FOREIGN,    /* it was there and is another's: left alone */
};

/**
 * weir_kubernetes_install() - lay down definitions, roles and the controller
 * @image: of the controller
 * @done:  called after each object
 *
 * Return: 0; the first failure with @err: what was done before stays, and the command can be given again
 */
WEIR_MUST int weir_kubernetes_install(struct weir_store *store, const char *image,
                                      void (*done)(const char *kind, const char *name, enum weir_kube_installed what),
                                      struct weir_err *err);
/**
 * weir_kubernetes_control() - write into the status of each resource what became of it, as long as this is the one
 * elected to do so
 * @stop_fd: readable when it is time to end; the lease is then given up
 * @say:     a line for the log; a problem, or that something changed
 *
 * Return: 0 after @stop_fd; -errno with @err if it cannot begin
 */
WEIR_MUST int weir_kubernetes_control(struct weir_store *store, int stop_fd,
                                      void (*say)(bool problem, const char *text), struct weir_err *err);
/* The same objects as YAML, to be laid down by other means. */
void weir_kubernetes_print_manifests(const char *image, struct weir_buf *buf);
