// Command network is the part of k3s that makes the pod network: flannel and kube-router's network policies, as two commands
// because the stand-in starts each for itself. k3s: pkg/agent/flannel, pkg/agent/netpol.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/cloudnativelabs/kube-router/v2/pkg/controllers/netpol"
	"github.com/cloudnativelabs/kube-router/v2/pkg/healthcheck"
	"github.com/cloudnativelabs/kube-router/v2/pkg/options"
	"github.com/flannel-io/flannel/pkg/backend"
	_ "github.com/flannel-io/flannel/pkg/backend/hostgw"
	_ "github.com/flannel-io/flannel/pkg/backend/vxlan"
	"github.com/flannel-io/flannel/pkg/ip"
	"github.com/flannel-io/flannel/pkg/ipmatch"
	"github.com/flannel-io/flannel/pkg/subnet/kube"
	"github.com/flannel-io/flannel/pkg/trafficmngr/iptables"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
)

const (
	subnetFile = "/run/flannel/subnet.env"
	prefix     = "flannel.alpha.coreos.com"
	// Seconds after which flannel looks at its iptables rules again.
	resync = 60
)

func main() {
	commands := map[string]func(context.Context, []string) error{"flannel": flannel, "policy": policy}
	if len(os.Args) < 2 || commands[os.Args[1]] == nil {
		fmt.Fprintln(os.Stderr, "usage: network flannel|policy --kubeconfig FILE --node NAME ...")
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	if err := commands[os.Args[1]](ctx, os.Args[2:]); err != nil {
		fmt.Fprintln(os.Stderr, "network:", err)
		os.Exit(1)
	}
}

// flannel sets up the backend that the configuration file names, its masquerading and its forwarding, and runs until it is ended.
func flannel(ctx context.Context, arguments []string) error {
	flags := flag.NewFlagSet("flannel", flag.ExitOnError)
	kubeconfig := flags.String("kubeconfig", "", "who may list nodes and annotate its own")
	node := flags.String("node", "", "name of this node")
	conf := flags.String("conf", "", "net-conf.json")
	address := flags.String("ip", "", "address, or name, of the interface that reaches the other nodes")
	noRandom := flags.Bool("ip-masq-disable-random-fully", false, "")
	_ = flags.Parse(arguments)

	os.Setenv("NODE_NAME", *node)
	manager, err := kube.NewSubnetManager(ctx, "", *kubeconfig, prefix, *conf, false)
	if err != nil {
		return err
	}
	config, err := manager.GetNetworkConfig(ctx)
	if err != nil {
		return err
	}
	stack, err := ipmatch.GetIPFamily(config.EnableIPv4, config.EnableIPv6)
	if err != nil {
		return err
	}
	outside, err := ipmatch.LookupExtIface(*address, "", "", stack, ipmatch.PublicIPOpts{})
	if err != nil {
		return err
	}
	chosen, err := backend.NewManager(ctx, manager, outside).GetBackend(config.BackendType)
	if err != nil {
		return err
	}
	var group sync.WaitGroup
	network, err := chosen.RegisterNetwork(ctx, &group, config)
	if err != nil {
		return err
	}
	traffic := &iptables.IPTablesManager{}
	if err := traffic.Init(ctx); err != nil {
		return err
	}
	none, none6 := ip.IP4Net{}, ip.IP6Net{}
	if err := traffic.SetupAndEnsureMasqRules(
		ctx, config.Network, none, none, none6, none6, none6, network.Lease(), resync, *noRandom); err != nil {
		return err
	}
	traffic.SetupAndEnsureForwardRules(ctx, config.Network, none6, resync)
	if err := manager.HandleSubnetFile(subnetFile, config, true, network.Lease().Subnet, network.Lease().IPv6Subnet, network.MTU()); err != nil {
		return err
	}
	network.Run(ctx)
	group.Wait()
	return nil
}

// policy runs kube-router's controller of NetworkPolicies, and nothing else of kube-router.
func policy(ctx context.Context, arguments []string) error {
	flags := flag.NewFlagSet("policy", flag.ExitOnError)
	kubeconfig := flags.String("kubeconfig", "", "who may list pods, namespaces and policies")
	node := flags.String("node", "", "name of this node")
	services := flags.String("service-cidrs", "", "ranges of service addresses")
	ports := flags.String("service-node-port-range", "30000-32767", "")
	_ = flags.Parse(arguments)

	access, err := clientcmd.BuildConfigFromFlags("", *kubeconfig)
	if err != nil {
		return err
	}
	client, err := kubernetes.NewForConfig(access)
	if err != nil {
		return err
	}
	config := options.NewKubeRouterConfig()
	config.ClusterIPCIDRs = strings.Split(*services, ",")
	config.EnableIPv4 = true
	config.HostnameOverride = *node
	config.NodePortRange = strings.ReplaceAll(*ports, "-", ":")
	config.RunFirewall = true

	factory := informers.NewSharedInformerFactory(client, 0)
	pods := factory.Core().V1().Pods().Informer()
	namespaces := factory.Core().V1().Namespaces().Informer()
	policies := factory.Networking().V1().NetworkPolicies().Informer()
	factory.Start(ctx.Done())
	factory.WaitForCacheSync(ctx.Done())

	tables, sets, err := netpol.NewIPTablesHandlers(config)
	if err != nil {
		return err
	}
	controller, err := netpol.NewNetworkPolicyController(client, config, pods, policies, namespaces, &sync.Mutex{}, tables, sets)
	if err != nil {
		return err
	}
	for _, step := range []func() error{
		func() error { _, err := pods.AddEventHandler(controller.PodEventHandler); return err },
		func() error { _, err := namespaces.AddEventHandler(controller.NamespaceEventHandler); return err },
		func() error { _, err := policies.AddEventHandler(controller.NetworkPolicyEventHandler); return err },
	} {
		if err := step(); err != nil {
			return err
		}
	}
	// Somebody has to take the controller's signs of life.
	beats := make(chan *healthcheck.ControllerHeartbeat, 10)
	go func() {
		for range beats {
			time.Sleep(0)
		}
	}()
	var group sync.WaitGroup
	group.Add(1)
	controller.Run(beats, ctx.Done(), &group)
	group.Wait()
	return nil
}
