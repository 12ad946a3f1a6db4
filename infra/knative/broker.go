package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"

	"go.opentelemetry.io/otel"
	"go.uber.org/zap"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	corev1listers "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	eventingduck "knative.dev/eventing/pkg/apis/duck/v1"
	"knative.dev/eventing/pkg/apis/eventing"
	eventingv1 "knative.dev/eventing/pkg/apis/eventing/v1"
	"knative.dev/eventing/pkg/auth"
	"knative.dev/eventing/pkg/broker"
	"knative.dev/eventing/pkg/broker/filter"
	"knative.dev/eventing/pkg/broker/ingress"
	"knative.dev/eventing/pkg/channel"
	"knative.dev/eventing/pkg/channel/fanout"
	eventingclient "knative.dev/eventing/pkg/client/injection/client"
	_ "knative.dev/eventing/pkg/client/injection/client/fake"
	brokerinformer "knative.dev/eventing/pkg/client/injection/informers/eventing/v1/broker"
	_ "knative.dev/eventing/pkg/client/injection/informers/eventing/v1/broker/fake"
	triggerinformer "knative.dev/eventing/pkg/client/injection/informers/eventing/v1/trigger"
	_ "knative.dev/eventing/pkg/client/injection/informers/eventing/v1/trigger/fake"
	subscriptioninformer "knative.dev/eventing/pkg/client/injection/informers/messaging/v1/subscription"
	_ "knative.dev/eventing/pkg/client/injection/informers/messaging/v1/subscription/fake"
	"knative.dev/eventing/pkg/eventingtls"
	"knative.dev/eventing/pkg/kncloudevents"
	"knative.dev/eventing/pkg/reconciler/sugar/trigger/path"
	"knative.dev/pkg/apis"
	duckv1 "knative.dev/pkg/apis/duck/v1"
	"knative.dev/pkg/controller"
	"knative.dev/pkg/injection"
	"knative.dev/pkg/network"
)

// system is the namespace of Knative Eventing's own pods.
const system = "knative-eventing"

// mtBroker is Knative's multi-tenant broker in one process: ingress, channel and filter are Knative's own handlers; the API
// server is a fake client set that holds the rendered Broker and Triggers. What its reconcilers would do is done here:
// addresses into the status, one channel subscription for each Trigger (reconciler/broker/trigger/trigger.go).
type mtBroker struct {
	listeners map[string]net.Listener // ingress, channel, filter
	ingress   http.Handler
	channel   http.Handler
	filter    http.Handler
}

func runBroker(objects []object, subscribers map[string]string, port int) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := os.Setenv("SYSTEM_NAMESPACE", system); err != nil {
		return err
	}
	run, err := newBroker(ctx, objects, subscribers, port)
	if err != nil {
		return err
	}
	return run.serve(ctx)
}

func newBroker(ctx context.Context, objects []object, subscribers map[string]string, port int) (*mtBroker, error) {
	one, triggers, err := brokerAndTriggers(objects)
	if err != nil {
		return nil, err
	}
	run := &mtBroker{listeners: map[string]net.Listener{}}
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

	subscriptions := make([]fanout.Subscription, 0, len(triggers))
	for _, trigger := range triggers {
		subscription, err := run.subscribe(trigger, one, subscribers)
		if err != nil {
			return nil, fmt.Errorf("Trigger %s: %w", trigger.Name, err)
		}
		subscriptions = append(subscriptions, *subscription)
	}
	return run, run.handlers(ctx, one, triggers, subscriptions)
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
	delivery := trigger.Spec.Delivery
	if delivery == nil {
		delivery = one.Spec.Delivery
	}
	spec := eventingduck.SubscriberSpec{
		UID:           trigger.UID,
		Name:          &trigger.Name,
		SubscriberURI: run.url("filter", path.Generate(trigger)),
		ReplyURI:      run.url("filter", path.GenerateReply(trigger)),
	}
	if delivery != nil {
		own := delivery.DeepCopy()
		if own.DeadLetterSink != nil {
			if trigger.Status.DeadLetterSinkURI, err = resolve(*own.DeadLetterSink, subscribers); err != nil {
				return nil, err
			}
			own.DeadLetterSink = &duckv1.Destination{URI: run.url("filter", path.GenerateDLS(trigger))}
		}
		spec.Delivery = own
	}
	subscription, err := fanout.SubscriberSpecToFanoutConfig(spec)
	if err == nil {
		subscription.Namespace = trigger.Namespace
	}
	return subscription, err
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

func (run *mtBroker) handlers(ctx context.Context, one *eventingv1.Broker, triggers []*eventingv1.Trigger, subscriptions []fanout.Subscription) error {
	ctx, informers := injection.Fake.SetupInformers(ctx, &rest.Config{})
	client := eventingclient.Get(ctx)
	if _, err := client.EventingV1().Brokers(one.Namespace).Create(ctx, one, metav1.CreateOptions{}); err != nil {
		return err
	}
	for _, trigger := range triggers {
		if _, err := client.EventingV1().Triggers(trigger.Namespace).Create(ctx, trigger, metav1.CreateOptions{}); err != nil {
			return err
		}
	}
	logger := zap.NewNop()
	if os.Getenv("KNATIVE_LOG") != "" {
		logger, _ = zap.NewDevelopment()
	}
	meters, traces := otel.GetMeterProvider(), otel.GetTracerProvider()
	trust := corev1listers.NewConfigMapLister(cache.NewIndexer(cache.MetaNamespaceKeyFunc, cache.Indexers{})).ConfigMaps(system)

	in, err := ingress.NewHandler(logger, broker.TTLDefaulter(logger, 255), brokerinformer.Get(ctx), (*auth.Verifier)(nil),
		(*auth.OIDCTokenProvider)(nil), trust, features, meters, traces)
	if err != nil {
		return err
	}
	out, err := filter.NewHandler(logger, (*auth.Verifier)(nil), (*auth.OIDCTokenProvider)(nil), triggerinformer.Get(ctx),
		brokerinformer.Get(ctx), subscriptioninformer.Get(ctx), trust, features, meters, traces)
	if err != nil {
		return err
	}
	// Asynchronous, as the chart's channel is (messaging.knative.dev/async-handler): the producer does not wait for the chain.
	fan, err := fanout.NewFanoutEventHandler(logger, fanout.Config{Subscriptions: subscriptions, AsyncHandler: true}, nil, nil, nil,
		kncloudevents.NewDispatcher(eventingtls.ClientConfig{TrustBundleConfigMapLister: trust}, nil), meters, traces,
		channel.ResolveChannelFromPath(channel.ParseChannelFromPath))
	if err != nil {
		return err
	}
	run.ingress, run.filter, run.channel = in, out, fan
	return controller.StartInformers(ctx.Done(), informers...)
}

func (run *mtBroker) serve(ctx context.Context) error {
	failed := make(chan error, len(run.listeners))
	for name, handler := range map[string]http.Handler{"ingress": run.ingress, "channel": run.channel, "filter": run.filter} {
		go func() { failed <- http.Serve(run.listeners[name], handler) }()
	}
	fmt.Printf("{\"message\": \"listening\", \"address\": %q}\n", run.listeners["ingress"].Addr())
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
