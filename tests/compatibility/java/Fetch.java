// SPDX-License-Identifier: Apache-2.0
// httpclient|nio|netty|netty-epoll URL: the body on standard output, by the JDK's client, bare NIO, or Netty.
import io.netty.bootstrap.Bootstrap;
import io.netty.channel.ChannelHandlerContext;
import io.netty.channel.ChannelInitializer;
import io.netty.channel.EventLoopGroup;
import io.netty.channel.SimpleChannelInboundHandler;
import io.netty.channel.epoll.EpollEventLoopGroup;
import io.netty.channel.epoll.EpollSocketChannel;
import io.netty.channel.nio.NioEventLoopGroup;
import io.netty.channel.socket.SocketChannel;
import io.netty.channel.socket.nio.NioSocketChannel;
import io.netty.handler.codec.http.DefaultFullHttpRequest;
import io.netty.handler.codec.http.FullHttpResponse;
import io.netty.handler.codec.http.HttpClientCodec;
import io.netty.handler.codec.http.HttpMethod;
import io.netty.handler.codec.http.HttpObjectAggregator;
import io.netty.handler.codec.http.HttpVersion;
import java.io.ByteArrayOutputStream;
import java.net.InetSocketAddress;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.ByteBuffer;
import java.nio.channels.SelectionKey;
import java.nio.channels.Selector;
import java.nio.charset.StandardCharsets;

public class Fetch {
    static byte[] httpClient(URI uri) throws Exception {
        HttpRequest request = HttpRequest.newBuilder(uri).version(HttpClient.Version.HTTP_1_1).build();
        return HttpClient.newHttpClient().send(request, HttpResponse.BodyHandlers.ofByteArray()).body();
    }

    static byte[] nio(URI uri) throws Exception {
        ByteArrayOutputStream all = new ByteArrayOutputStream();
        ByteBuffer buffer = ByteBuffer.allocate(65536);
        try (Selector selector = Selector.open(); java.nio.channels.SocketChannel channel = java.nio.channels.SocketChannel.open()) {
            channel.configureBlocking(false);
            channel.register(selector, SelectionKey.OP_CONNECT);
            channel.connect(new InetSocketAddress(uri.getHost(), uri.getPort() < 0 ? 80 : uri.getPort()));
            while (true) {
                selector.select();
                selector.selectedKeys().clear();
                if (channel.isConnectionPending()) {
                    channel.finishConnect();
                    String request = "GET " + uri.getPath() + " HTTP/1.0\r\nHost: " + uri.getHost() + "\r\n\r\n";
                    channel.write(ByteBuffer.wrap(request.getBytes(StandardCharsets.US_ASCII)));
                    channel.keyFor(selector).interestOps(SelectionKey.OP_READ);
                }
                int n;
                while ((n = channel.read(buffer.clear())) > 0)
                    all.write(buffer.array(), 0, n);
                if (n < 0)
                    break;
            }
        }
        byte[] bytes = all.toByteArray();
        String text = new String(bytes, StandardCharsets.ISO_8859_1);
        int body = text.indexOf("\r\n\r\n") + 4;
        return java.util.Arrays.copyOfRange(bytes, body, bytes.length);
    }

    static byte[] netty(URI uri, boolean epoll) throws Exception {
        EventLoopGroup group = epoll ? new EpollEventLoopGroup(1) : new NioEventLoopGroup(1);
        byte[][] body = new byte[1][];
        try {
            Bootstrap bootstrap = new Bootstrap().group(group)
                .channel(epoll ? EpollSocketChannel.class : NioSocketChannel.class)
                .handler(new ChannelInitializer<SocketChannel>() {
                    @Override
                    protected void initChannel(SocketChannel channel) {
                        channel.pipeline().addLast(new HttpClientCodec(), new HttpObjectAggregator(64 << 20),
                            new SimpleChannelInboundHandler<FullHttpResponse>() {
                                @Override
                                protected void channelRead0(ChannelHandlerContext context, FullHttpResponse response) {
                                    body[0] = new byte[response.content().readableBytes()];
                                    response.content().readBytes(body[0]);
                                    context.close();
                                }
                            });
                    }
                });
            io.netty.channel.Channel channel =
                bootstrap.connect(uri.getHost(), uri.getPort() < 0 ? 80 : uri.getPort()).sync().channel();
            DefaultFullHttpRequest request = new DefaultFullHttpRequest(HttpVersion.HTTP_1_1, HttpMethod.GET, uri.getPath());
            request.headers().set("Host", uri.getHost());
            channel.writeAndFlush(request);
            channel.closeFuture().sync();
        } finally {
            group.shutdownGracefully(0, 1, java.util.concurrent.TimeUnit.SECONDS).sync();
        }
        return body[0];
    }

    public static void main(String[] args) throws Exception {
        URI uri = URI.create(args[1]);
        byte[] body = switch (args[0]) {
            case "httpclient" -> httpClient(uri);
            case "nio" -> nio(uri);
            case "netty" -> netty(uri, false);
            default -> netty(uri, true);
        };
        System.out.write(body, 0, body.length);
        System.out.flush();
    }
}
