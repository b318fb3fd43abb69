/* SPDX-License-Identifier: Apache-2.0 */
/* From a validated tree to a resource. */
#pragma once

#include "model/resource.h"

struct weir_node;

/**
 * weir_resource_from_node() - the structs of a document that validation has passed
 * @node: taken over, also on failure; the resource's texts point into it
 *
 * Return: 0; -ENOMEM
 */
WEIR_MUST int weir_resource_from_node(struct weir_node *node, enum weir_kind kind, const char *path,
                                      struct weir_resource **ret_resource);
