# SPDX-License-Identifier: Apache-2.0
"""The cluster itself: what the other tests lean on must hold before they mean anything."""
import unittest

from cluster import shared
from lab import DENIED4, WIKIPEDIA4, WIKIPEDIA6

POD = """
apiVersion: v1
kind: Pod
metadata: {name: plain}
spec:
  terminationGracePeriodSeconds: 0
  containers: [{name: app, image: lab/tools:1, command: [sleep, 1d]}]
"""


class Cluster(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.cluster = shared()
        cls.cluster.kubectl("apply", "-f", "-", input=POD)
        cls.addClassCleanup(cls.cluster.kubectl, "delete", "pod", "plain", "--now", check=False)
        cls.cluster.kubectl("wait", "--for=condition=Ready", "--timeout=90s", "pod/plain")

    def code(self, *words):
        return self.cluster.exec("plain", "curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "-m", "20", *words).stdout

    def test_a_pod_without_weir_reaches_everything(self):
        """The control of every test that says a pod does not."""
        self.assertEqual(self.code("https://www.wikipedia.org"), "200")
        for address in (WIKIPEDIA4, f"[{WIKIPEDIA6}]"):
            self.assertEqual(self.code(f"https://{address}/"), "200")

    def test_the_canary_sees_a_pods_packets(self):
        before = self.cluster.lab.canary()
        self.assertEqual(self.code(f"https://{DENIED4}/"), "200")
        self.assertGreater(self.cluster.lab.canary(), before)

    def test_the_api_server_can_be_stopped_and_started(self):
        self.cluster.stop("kube-apiserver")
        self.assertNotEqual(self.cluster.kubectl("get", "ns", check=False).returncode, 0)
        self.cluster.start("kube-apiserver")
        self.assertIn("default", self.cluster.kubectl("get", "ns").stdout)
