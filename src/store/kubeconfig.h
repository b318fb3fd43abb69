/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which API server, and as whom: a kubeconfig as kubectl reads it, or a pod's service account. Private to store/.
 *
 * KUBECONFIG is a list of files, of which those that do not exist are passed over and the first that says a thing wins;
 * without it $HOME/.kube/config. Paths in a file are meant beside that file.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/cleanup.h"
#include "base/strutil.h"

struct weir_err;

/* A program that prints credentials (client.authentication.k8s.io). @command is NULL where there is none. */
struct weir_kube_exec {
        char *command, *api_version, *install_hint;
        struct weir_strv args, environment; /* "NAME=VALUE" */
        bool provide_cluster_info;
};

struct weir_kube_config {
        char *context; /* "" in a pod */
        char *cluster; /* the name, for messages */
        char *user;    /* the name, for messages */
        char *server;  /* "https://host:port/path", no slash at the end */
        char *namespace_;
        char *ca, *certificate, *key; /* PEM; NULL if not given */
        bool insecure;
        char *server_name, *proxy;
        char *token, *token_file; /* the file wins and is read again, for tokens are rotated */
        char *username, *password;
        char *as_user, *as_uid;
        struct weir_strv as_groups;
        struct weir_kube_exec exec;
        struct weir_strv files; /* what was read, to be kept from a workload's hands */
};

/* @context: NULL for the current one. Return: 0; -errno or WEIR_EINVALID with @err, one line a person can act on */
WEIR_MUST int weir_kube_config_read(const char *context, struct weir_kube_config *ret, struct weir_err *err);
void weir_kube_config_clear(struct weir_kube_config *config);

#define WEIR_KUBE_ACCOUNT "/var/run/secrets/kubernetes.io/serviceaccount"
