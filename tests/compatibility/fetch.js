// SPDX-License-Identifier: Apache-2.0
// fetch|net URL: the body on standard output.
const net = require('net');
const [how, url] = process.argv.slice(2);

function byNet(parts) {
  const chunks = [];
  const socket = net.connect(80, parts.hostname, () => socket.write(`GET ${parts.pathname} HTTP/1.0\r\nHost: ${parts.hostname}\r\n\r\n`));
  socket.on('data', (chunk) => chunks.push(chunk));
  socket.on('end', () => {
    const all = Buffer.concat(chunks);
    process.stdout.write(all.subarray(all.indexOf('\r\n\r\n') + 4));
  });
  socket.on('error', (error) => { console.error(error); process.exitCode = 1; });
}

if (how === 'net') {
  byNet(new URL(url));
} else {
  fetch(url).then((answer) => answer.arrayBuffer()).then((body) => process.stdout.write(Buffer.from(body)))
    .catch((error) => { console.error(error); process.exitCode = 1; });
}
