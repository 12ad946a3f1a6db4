package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"

	"k8s.io/apimachinery/pkg/types"
	eventingduck "knative.dev/eventing/pkg/apis/duck/v1"
	"knative.dev/eventing/pkg/apis/eventing"
	eventingv1 "knative.dev/eventing/pkg/apis/eventing/v1"
	"knative.dev/eventing/pkg/channel/fanout"
	"knative.dev/eventing/pkg/reconciler/sugar/trigger/path"
	"knative.dev/pkg/apis"
	duckv1 "knative.dev/pkg/apis/duck/v1"
	"knative.dev/pkg/network"
)

// system is the namespace of Knative Eventing's own pods.
const system = "knative-eventing"

// mtBroker is Knative's multi-tenant broker in one process: ingress, channel and filter are Knative's own handlers; the API
// server is a fake client set that holds the rendered Broker and Triggers. What its reconcilers would do is done here:
// addresses into the status, one channel subscription for each Trigger (reconciler/broker/trigger/trigger.go).
type mtBroker struct {
	listeners map[string]net.Listener // ingress, channel, filter
	issuer    *issuer                 // nil without the feature authentication-oidc
	tokens    map[string]string       // what the tests send by, where there is an issuer
	ingress   http.Handler
	channel   http.Handler
	filter    http.Handler
}

func runBroker(objects []object, subscribers map[string]string, port, issuerPort int) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := os.Setenv("SYSTEM_NAMESPACE", system); err != nil {
		return err
	}
	run, err := newBroker(ctx, objects, subscribers, port, issuerPort)
	if err != nil {
		return err
	}
	return run.serve(ctx)
}

func newBroker(ctx context.Context, objects []object, subscribers map[string]string, port, issuerPort int) (*mtBroker, error) {
	one, triggers, err := brokerAndTriggers(objects)
	if err != nil {
		return nil, err
	}
	run := &mtBroker{listeners: map[string]net.Listener{}}
	if len(enabled) > 0 {
		if run.issuer, err = newIssuer(issuerPort); err != nil {
			return nil, err
		}
		enabled["oidc-discovery-base-url"] = run.issuer.url
	}
	for name, wanted := range map[string]int{"ingress": port, "channel": 0, "filter": 0} {
		listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", wanted))
		if err != nil {
			return nil, err
		}
		run.listeners[name] = listener
	}
	run.resolveFilter()
	channelURL := run.url("channel", "/"+one.Namespace+"/"+one.Name)
	one.Status.Address = &duckv1.Addressable{URL: run.url("ingress", "/"+one.Namespace+"/"+one.Name)}
	one.Status.Annotations = map[string]string{eventing.BrokerChannelAddressStatusAnnotationKey: channelURL.String()}

	if run.issuer != nil {
		audience := brokerAudience(one)
		one.Status.Address.Audience = &audience
		if run.tokens, err = run.issuer.tokens(objects, one, triggers); err != nil {
			return nil, err
		}
	}

	subscriptions := make([]fanout.Subscription, 0, len(triggers))
	for _, trigger := range triggers {
		subscription, err := run.subscribe(trigger, one, subscribers)
		if err != nil {
			return nil, fmt.Errorf("Trigger %s: %w", trigger.Name, err)
		}
		subscriptions = append(subscriptions, *subscription)
	}
	return run, run.handlers(ctx, one, triggers, policies(objects, one), subscriptions)
}

// url is where one of the three parts is. The filter has its name in a cluster: by that name the dispatcher knows whose answer
// it reads, and takes the function's address and answer out of it for the dead letter.
func (run *mtBroker) url(name, path string) *apis.URL {
	host := run.listeners[name].Addr().String()
	if name == "filter" {
		host = network.GetServiceHostname("broker-filter", system)
	}
	return &apis.URL{Scheme: "http", Host: host, Path: path}
}

// resolveFilter makes the filter's name in a cluster lead to its listener; Knative's clients are copies of this transport.
func (run *mtBroker) resolveFilter() {
	transport := http.DefaultTransport.(*http.Transport)
	dialer := &net.Dialer{}
	transport.DialContext = func(ctx context.Context, kind, address string) (net.Conn, error) {
		if address == network.GetServiceHostname("broker-filter", system)+":80" {
			address = run.listeners["filter"].Addr().String()
		}
		return dialer.DialContext(ctx, kind, address)
	}
	transport.Proxy = nil
}

// subscribe resolves a Trigger's addresses into its status and makes the subscription that its reconciler would.
func (run *mtBroker) subscribe(trigger *eventingv1.Trigger, one *eventingv1.Broker, subscribers map[string]string) (*fanout.Subscription, error) {
	trigger.UID = types.UID(trigger.Name)
	uri, err := resolve(trigger.Spec.Subscriber, subscribers)
	if err != nil {
		return nil, err
	}
	trigger.Status.SubscriberURI = uri
	trigger.Status.SubscriberAudience = trigger.Spec.Subscriber.Audience
	delivery := trigger.Spec.Delivery
	if delivery == nil {
		delivery = one.Spec.Delivery
	}
	spec := eventingduck.SubscriberSpec{
		UID:           trigger.UID,
		Name:          &trigger.Name,
		SubscriberURI: run.url("filter", path.Generate(trigger)),
		ReplyURI:      run.url("filter", path.GenerateReply(trigger)),

		SubscriberAudience: run.filterAudience(),
		ReplyAudience:      run.filterAudience(),
	}
	if delivery != nil {
		own := delivery.DeepCopy()
		if own.DeadLetterSink != nil {
			if trigger.Status.DeadLetterSinkURI, err = resolve(*own.DeadLetterSink, subscribers); err != nil {
				return nil, err
			}
			trigger.Status.DeadLetterSinkAudience = own.DeadLetterSink.Audience
			own.DeadLetterSink = &duckv1.Destination{URI: run.url("filter", path.GenerateDLS(trigger)), Audience: run.filterAudience()}
		}
		spec.Delivery = own
	}
	subscription, err := fanout.SubscriberSpecToFanoutConfig(spec)
	if err != nil {
		return nil, err
	}
	subscription.Namespace = trigger.Namespace
	if run.issuer != nil {
		sender, own := triggerAccount(trigger), subscriptionAccount(subscriptionOf(trigger))
		trigger.Status.Auth = &duckv1.AuthStatus{ServiceAccountName: &sender.Name}
		subscription.ServiceAccount = &own
	}
	return subscription, nil
}

func resolve(destination duckv1.Destination, subscribers map[string]string) (*apis.URL, error) {
	if destination.Ref == nil {
		return destination.URI, nil
	}
	url, ok := subscribers[destination.Ref.Name]
	if !ok {
		return nil, fmt.Errorf("no --subscriber %s", destination.Ref.Name)
	}
	return apis.ParseURL(url)
}

func (run *mtBroker) serve(ctx context.Context) error {
	failed := make(chan error, len(run.listeners))
	for name, handler := range map[string]http.Handler{"ingress": run.ingress, "channel": run.channel, "filter": run.filter} {
		go func() { failed <- http.Serve(run.listeners[name], handler) }()
	}
	said := map[string]any{"message": "listening", "address": run.listeners["ingress"].Addr().String(), "tokens": run.tokens}
	if err := json.NewEncoder(os.Stdout).Encode(said); err != nil {
		return err
	}
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
		return nil
	}
}

func brokerAndTriggers(objects []object) (*eventingv1.Broker, []*eventingv1.Trigger, error) {
	var one *eventingv1.Broker
	var triggers []*eventingv1.Trigger
	for _, each := range objects {
		switch decoded := each.decoded.(type) {
		case *eventingv1.Broker:
			one = decoded
		case *eventingv1.Trigger:
			triggers = append(triggers, decoded)
		}
	}
	if one == nil {
		return nil, nil, errors.New("there is no Broker among the objects")
	}
	return one, triggers, nil
}
