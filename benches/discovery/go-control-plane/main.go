// Command go-control-plane serves the EndpointSlices of an API server by EDS with Envoy's own library, as the bench's
// subject beside Tidegate: it follows the same list and watch, makes the same assignments, and keeps them in the library's
// cache for independent resources.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"sort"
	"strings"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpoint "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/endpoint/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/types"
	"github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"github.com/envoyproxy/go-control-plane/pkg/server/v3"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// event is as much of a line of the watch as pools are made from.
type event struct {
	Type   string `json:"type"`
	Object struct {
		Metadata struct {
			Namespace   string            `json:"namespace"`
			Labels      map[string]string `json:"labels"`
			Annotations map[string]string `json:"annotations"`
		} `json:"metadata"`
		Endpoints []struct {
			Addresses  []string `json:"addresses"`
			Conditions struct {
				Ready       *bool `json:"ready"`
				Terminating *bool `json:"terminating"`
			} `json:"conditions"`
			Zone string `json:"zone"`
		} `json:"endpoints"`
		Ports []struct {
			Name string `json:"name"`
			Port uint32 `json:"port"`
		} `json:"ports"`
	} `json:"object"`
}

const weight = 100

func main() {
	listen := flag.String("listen", "", "where to serve, IP:PORT")
	api := flag.String("api", "", "the API server, http://IP:PORT")
	flag.Parse()
	linear := cache.NewLinearCache(resource.EndpointType)
	listed := make(chan struct{})
	go follow(*api, linear, listed)
	<-listed
	socket, err := net.Listen("tcp", *listen)
	if err != nil {
		log.Fatal(err)
	}
	service := grpc.NewServer(grpc.MaxConcurrentStreams(1 << 20))
	discovery.RegisterEndpointDiscoveryServiceServer(service, server.NewServer(context.Background(), linear, nil))
	fmt.Println("ready")
	log.Fatal(service.Serve(socket))
}

// follow reads the list and the watch after it, until the connection ends.
func follow(api string, linear *cache.LinearCache, listed chan<- struct{}) {
	answer, err := http.Get(api + "/apis/discovery.k8s.io/v1/endpointslices?watch=true&timeoutSeconds=3600")
	if err != nil {
		log.Fatal(err)
	}
	lines := bufio.NewReaderSize(answer.Body, 1<<20)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			log.Print("the watch ended: ", err)
			os.Exit(1)
		}
		var event event
		if err := json.Unmarshal(line, &event); err != nil {
			log.Fatal(err)
		}
		if event.Type == "BOOKMARK" {
			if event.Object.Metadata.Annotations["k8s.io/initial-events-end"] == "true" {
				close(listed)
			}
			continue
		}
		for name, assignment := range assignments(&event) {
			if err := linear.UpdateResource(name, assignment); err != nil {
				log.Fatal(err)
			}
		}
	}
}

// assignments makes one assignment for each port, with a locality for each zone.
func assignments(event *event) map[string]types.Resource {
	made := map[string]types.Resource{}
	for _, port := range event.Object.Ports {
		service := event.Object.Metadata.Labels["kubernetes.io/service-name"]
		name := strings.Join([]string{"east", event.Object.Metadata.Namespace, service, port.Name}, "/")
		zones := map[string]*endpoint.LocalityLbEndpoints{}
		for _, it := range event.Object.Endpoints {
			ready := it.Conditions.Ready == nil || *it.Conditions.Ready
			terminating := it.Conditions.Terminating != nil && *it.Conditions.Terminating
			if !ready && !terminating {
				continue
			}
			zone := zones[it.Zone]
			if zone == nil {
				zone = &endpoint.LocalityLbEndpoints{LoadBalancingWeight: wrapperspb.UInt32(0)}
				if it.Zone != "" {
					zone.Locality = &core.Locality{Zone: it.Zone}
				}
				zones[it.Zone] = zone
			}
			health := core.HealthStatus_DRAINING
			if ready {
				health = core.HealthStatus_HEALTHY
				zone.LoadBalancingWeight.Value += weight
			}
			address := &core.SocketAddress{
				Address:       it.Addresses[0],
				PortSpecifier: &core.SocketAddress_PortValue{PortValue: port.Port},
			}
			zone.LbEndpoints = append(zone.LbEndpoints, &endpoint.LbEndpoint{
				HostIdentifier: &endpoint.LbEndpoint_Endpoint{Endpoint: &endpoint.Endpoint{
					Address: &core.Address{Address: &core.Address_SocketAddress{SocketAddress: address}},
				}},
				HealthStatus:        health,
				LoadBalancingWeight: wrapperspb.UInt32(weight),
			})
		}
		assignment := &endpoint.ClusterLoadAssignment{ClusterName: name}
		names := make([]string, 0, len(zones))
		for zone := range zones {
			names = append(names, zone)
		}
		sort.Strings(names)
		for _, zone := range names {
			assignment.Endpoints = append(assignment.Endpoints, zones[zone])
		}
		made[name] = assignment
	}
	return made
}
