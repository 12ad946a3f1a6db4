package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"

	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	istionetworking "istio.io/client-go/pkg/apis/networking/v1alpha3"
	istiosecurity "istio.io/client-go/pkg/apis/security/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/kubernetes/scheme"
	eventingv1 "knative.dev/eventing/pkg/apis/eventing/v1"
	eventingv1alpha1 "knative.dev/eventing/pkg/apis/eventing/v1alpha1"
	eventingv1beta3 "knative.dev/eventing/pkg/apis/eventing/v1beta3"
	"knative.dev/eventing/pkg/apis/feature"
	sourcesv1 "knative.dev/eventing/pkg/apis/sources/v1"
	"knative.dev/pkg/apis"
	servingv1 "knative.dev/serving/pkg/apis/serving/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
	gatewayv1beta1 "sigs.k8s.io/gateway-api/apis/v1beta1"
	sigsyaml "sigs.k8s.io/yaml"
)

// object is one rendered document; decoded is nil where no Go type of its kind is at hand.
type object struct {
	kind, name string
	decoded    any
}

// types of the kinds that are not Kubernetes' own (those are in client-go's scheme).
var kinds = map[string]func() any{
	"serving.knative.dev/v1 Service":                   func() any { return &servingv1.Service{} },
	"eventing.knative.dev/v1 Broker":                   func() any { return &eventingv1.Broker{} },
	"eventing.knative.dev/v1 Trigger":                  func() any { return &eventingv1.Trigger{} },
	"eventing.knative.dev/v1beta3 EventType":           func() any { return &eventingv1beta3.EventType{} },
	"eventing.knative.dev/v1alpha1 EventPolicy":        func() any { return &eventingv1alpha1.EventPolicy{} },
	"sources.knative.dev/v1 SinkBinding":               func() any { return &sourcesv1.SinkBinding{} },
	"sources.knative.dev/v1 PingSource":                func() any { return &sourcesv1.PingSource{} },
	"gateway.networking.k8s.io/v1 HTTPRoute":           func() any { return &gatewayv1.HTTPRoute{} },
	"gateway.networking.k8s.io/v1beta1 ReferenceGrant": func() any { return &gatewayv1beta1.ReferenceGrant{} },
	"security.istio.io/v1 PeerAuthentication":          func() any { return &istiosecurity.PeerAuthentication{} },
	"security.istio.io/v1 AuthorizationPolicy":         func() any { return &istiosecurity.AuthorizationPolicy{} },
	"security.istio.io/v1 RequestAuthentication":       func() any { return &istiosecurity.RequestAuthentication{} },
	"networking.istio.io/v1alpha3 EnvoyFilter":         func() any { return &istionetworking.EnvoyFilter{} },
	"monitoring.coreos.com/v1 ServiceMonitor":          func() any { return &monitoringv1.ServiceMonitor{} },
	"monitoring.coreos.com/v1 PrometheusRule":          func() any { return &monitoringv1.PrometheusRule{} },
}

// read decodes every document of the files, each strictly into its own type; a field that the type does not know is an error.
func read(files []string, namespace string) ([]object, error) {
	var objects []object
	var found []error
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		reader := yaml.NewDocumentDecoder(io.NopCloser(bytes.NewReader(text)))
		for {
			document, err := next(reader)
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return nil, err
			}
			one, err := decode(document, namespace)
			if err != nil {
				found = append(found, err)
			} else if one.kind != "" {
				objects = append(objects, one)
			}
		}
	}
	return objects, errors.Join(found...)
}

func next(reader io.Reader) ([]byte, error) {
	buffer := make([]byte, 4<<20)
	count, err := reader.Read(buffer)
	return buffer[:count], err
}

func decode(document []byte, namespace string) (object, error) {
	var head struct {
		metav1.TypeMeta   `json:",inline"`
		metav1.ObjectMeta `json:"metadata"`
	}
	if err := sigsyaml.Unmarshal(document, &head); err != nil {
		return object{}, err
	}
	if head.Kind == "" {
		return object{}, nil
	}
	one := object{kind: head.APIVersion + " " + head.Kind, name: head.Name}
	if make, ok := kinds[one.kind]; ok {
		one.decoded = make()
		if err := sigsyaml.UnmarshalStrict(document, one.decoded); err != nil {
			return one, fmt.Errorf("%s %s: %w", one.kind, one.name, err)
		}
	} else if scheme.Scheme.Recognizes(head.GroupVersionKind()) {
		decoded, err := scheme.Scheme.New(head.GroupVersionKind())
		if err != nil {
			return one, err
		}
		if err := sigsyaml.UnmarshalStrict(document, decoded); err != nil {
			return one, fmt.Errorf("%s %s: %w", one.kind, one.name, err)
		}
		one.decoded = decoded
	}
	if meta, ok := one.decoded.(metav1.Object); ok && meta.GetNamespace() == "" {
		meta.SetNamespace(namespace)
	}
	return one, nil
}

// validate puts every Knative object through Knative's own SetDefaults and Validate, as its admission webhooks do.
func validate(objects []object) []error {
	var found []error
	for _, one := range objects {
		ctx := apis.WithinCreate(features(context.Background()))
		if defaultable, ok := one.decoded.(apis.Defaultable); ok {
			defaultable.SetDefaults(ctx)
		}
		if validatable, ok := one.decoded.(apis.Validatable); ok {
			if err := validatable.Validate(ctx); err != nil {
				found = append(found, fmt.Errorf("%s %s: %w", one.kind, one.name, err))
			}
		}
	}
	return append(found, rules(objects)...)
}

// enabled is what config-features says besides its defaults.
var enabled = map[string]string{}

// features are those of Knative's release as it is installed, and `enabled`.
func features(ctx context.Context) context.Context {
	flags, err := feature.NewFlagsConfigFromMap(enabled)
	if err != nil {
		panic(err) // it never returns one: an unknown value is only logged
	}
	return feature.ToContext(ctx, flags)
}

// rules are this project's own: nothing of it would be refused by Knative, and each would lose events.
func rules(objects []object) []error {
	var found []error
	services := map[string]*servingv1.Service{}
	for _, one := range objects {
		if service, ok := one.decoded.(*servingv1.Service); ok {
			services[service.Name] = service
			if err := threads(service); err != nil {
				found = append(found, err)
			}
		}
	}
	for _, one := range objects {
		trigger, ok := one.decoded.(*eventingv1.Trigger)
		if !ok {
			continue
		}
		if trigger.Spec.Delivery == nil || trigger.Spec.Delivery.DeadLetterSink == nil {
			found = append(found, fmt.Errorf("Trigger %s has no dead-letter sink: what it gives up on is lost", trigger.Name))
			continue
		}
		name := trigger.Spec.Subscriber.Ref.Name
		service, ok := services[name]
		if len(services) > 0 && !ok {
			found = append(found, fmt.Errorf("Trigger %s wakes %s, which is no Knative Service of the chart", trigger.Name, name))
		}
		if ok && trigger.Spec.Delivery.Timeout != nil {
			limit := time.Duration(*service.Spec.Template.Spec.TimeoutSeconds) * time.Second
			if wait, err := iso(*trigger.Spec.Delivery.Timeout); err != nil || wait >= limit {
				found = append(found, fmt.Errorf("Trigger %s waits %s, its function is cut off after %s", trigger.Name, wait, limit))
			}
		}
	}
	return append(found, senders(objects)...)
}

func threads(service *servingv1.Service) error {
	limit := *service.Spec.Template.Spec.ContainerConcurrency
	for _, variable := range service.Spec.Template.Spec.Containers[0].Env {
		if variable.Name == "THREADS" {
			if count, err := strconv.ParseInt(variable.Value, 10, 64); err == nil && limit <= count && limit > 0 {
				return nil
			}
		}
	}
	return fmt.Errorf("Service %s: containerConcurrency %d is above its THREADS", service.Name, limit)
}

// iso reads what this project's table may say: PT30S, PT0.5S.
func iso(text string) (time.Duration, error) {
	if len(text) < 4 || text[:2] != "PT" || text[len(text)-1] != 'S' {
		return 0, fmt.Errorf("%s is not PT…S", text)
	}
	return time.ParseDuration(text[2:len(text)-1] + "s")
}
