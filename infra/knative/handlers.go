package main

import (
	"context"
	"errors"
	"os"

	"go.opentelemetry.io/otel"
	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	corev1listers "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	eventingduck "knative.dev/eventing/pkg/apis/duck/v1"
	eventingv1 "knative.dev/eventing/pkg/apis/eventing/v1"
	eventingv1alpha1 "knative.dev/eventing/pkg/apis/eventing/v1alpha1"
	"knative.dev/eventing/pkg/apis/feature"
	messagingv1 "knative.dev/eventing/pkg/apis/messaging/v1"
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
	policyinformer "knative.dev/eventing/pkg/client/injection/informers/eventing/v1alpha1/eventpolicy"
	_ "knative.dev/eventing/pkg/client/injection/informers/eventing/v1alpha1/eventpolicy/fake"
	subscriptioninformer "knative.dev/eventing/pkg/client/injection/informers/messaging/v1/subscription"
	_ "knative.dev/eventing/pkg/client/injection/informers/messaging/v1/subscription/fake"
	"knative.dev/eventing/pkg/eventingtls"
	"knative.dev/eventing/pkg/kncloudevents"
	"knative.dev/eventing/pkg/reconciler/broker/resources"
	duckv1 "knative.dev/pkg/apis/duck/v1"
	"knative.dev/pkg/configmap"
	"knative.dev/pkg/controller"
	"knative.dev/pkg/injection"
)

// handlers makes Knative's three handlers, over a fake client set that holds the objects.
func (run *mtBroker) handlers(
	ctx context.Context, one *eventingv1.Broker, triggers []*eventingv1.Trigger, policies []*eventingv1alpha1.EventPolicy,
	subscriptions []fanout.Subscription,
) error {
	ctx, informers := injection.Fake.SetupInformers(ctx, &rest.Config{})
	if err := create(ctx, one, triggers, policies); err != nil {
		return err
	}
	logger := zap.NewNop()
	if os.Getenv("KNATIVE_LOG") != "" {
		logger, _ = zap.NewDevelopment()
	}
	meters, traces := otel.GetMeterProvider(), otel.GetTracerProvider()
	trust := corev1listers.NewConfigMapLister(cache.NewIndexer(cache.MetaNamespaceKeyFunc, cache.Indexers{})).ConfigMaps(system)
	var verifier *auth.Verifier
	var tokens *auth.OIDCTokenProvider
	if run.issuer != nil {
		run.issuer.answerTokenRequests(ctx)
		config := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: feature.FlagsConfigName, Namespace: system}, Data: enabled}
		verifier = auth.NewVerifier(ctx, policyinformer.Get(ctx).Lister(), trust, configmap.NewStaticWatcher(config))
		tokens = auth.NewOIDCTokenProvider(ctx)
	}

	in, err := ingress.NewHandler(logger, broker.TTLDefaulter(logger, 255), brokerinformer.Get(ctx), verifier, tokens, trust,
		features, meters, traces)
	if err != nil {
		return err
	}
	out, err := filter.NewHandler(logger, verifier, tokens, triggerinformer.Get(ctx), brokerinformer.Get(ctx),
		subscriptioninformer.Get(ctx), trust, features, meters, traces)
	if err != nil {
		return err
	}
	// Asynchronous, as the chart's channel is (messaging.knative.dev/async-handler): the producer does not wait for the chain.
	fan, err := fanout.NewFanoutEventHandler(logger, fanout.Config{Subscriptions: subscriptions, AsyncHandler: true}, nil, nil, nil,
		kncloudevents.NewDispatcher(eventingtls.ClientConfig{TrustBundleConfigMapLister: trust}, tokens), meters, traces,
		channel.ResolveChannelFromPath(channel.ParseChannelFromPath))
	if err != nil {
		return err
	}
	run.ingress, run.filter, run.channel = in, out, fan
	return controller.StartInformers(ctx.Done(), informers...)
}

func create(ctx context.Context, one *eventingv1.Broker, triggers []*eventingv1.Trigger, policies []*eventingv1alpha1.EventPolicy) error {
	client, options := eventingclient.Get(ctx), metav1.CreateOptions{}
	_, err := client.EventingV1().Brokers(one.Namespace).Create(ctx, one, options)
	for _, trigger := range triggers {
		_, failed := client.EventingV1().Triggers(trigger.Namespace).Create(ctx, trigger, options)
		subscription := subscriptionOf(trigger)
		_, also := client.MessagingV1().Subscriptions(trigger.Namespace).Create(ctx, subscription, options)
		err = errors.Join(err, failed, also)
	}
	for _, policy := range policies {
		_, failed := client.EventingV1alpha1().EventPolicies(policy.Namespace).Create(ctx, policy, options)
		err = errors.Join(err, failed)
	}
	return err
}

// subscriptionOf is the Subscription that a Trigger's reconciler makes, as far as the filter looks at it: its identity.
func subscriptionOf(trigger *eventingv1.Trigger) *messagingv1.Subscription {
	one := &messagingv1.Subscription{ObjectMeta: metav1.ObjectMeta{
		Namespace: trigger.Namespace, Name: resources.SubscriptionName(feature.FromContext(features(context.Background())), trigger),
	}}
	identity := subscriptionAccount(one)
	one.Status.Auth = &duckv1.AuthStatus{ServiceAccountName: &identity.Name}
	return one
}

// filterAudience is what the filter is called in tokens; nil without OIDC.
func (run *mtBroker) filterAudience() *string {
	if run.issuer == nil {
		return nil
	}
	audience := filter.FilterAudience
	return &audience
}

// policies are the EventPolicies of a Broker, resolved; their names go into its status.
func policies(objects []object, one *eventingv1.Broker) []*eventingv1alpha1.EventPolicy {
	var found []*eventingv1alpha1.EventPolicy
	for _, each := range objects {
		if policy, ok := each.decoded.(*eventingv1alpha1.EventPolicy); ok {
			resolvePolicy(policy)
			found = append(found, policy)
			one.Status.Policies = append(one.Status.Policies, eventingduck.AppliedEventPolicyRef{Name: policy.Name})
		}
	}
	return found
}
