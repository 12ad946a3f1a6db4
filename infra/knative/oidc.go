package main

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v3"
	"github.com/go-jose/go-jose/v3/jwt"
	authv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	clienttesting "k8s.io/client-go/testing"
	eventingv1 "knative.dev/eventing/pkg/apis/eventing/v1"
	eventingv1alpha1 "knative.dev/eventing/pkg/apis/eventing/v1alpha1"
	messagingv1 "knative.dev/eventing/pkg/apis/messaging/v1"
	sourcesv1 "knative.dev/eventing/pkg/apis/sources/v1"
	"knative.dev/eventing/pkg/auth"
	kubeclient "knative.dev/pkg/client/injection/kube/client/fake"
)

// settings is the ConfigMap that the functions of the chart read.
const settings = "self-service-agent-settings"

// issuer is what a cluster's API server is to Eventing's feature authentication-oidc: it signs the tokens of service accounts,
// and tells its keys. Everything that asks for tokens or verifies them is Knative's own, or the functions'.
type issuer struct {
	url    string
	signer jose.Signer
}

func newIssuer(port int) (*issuer, error) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, err
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: jose.JSONWebKey{Key: key, KeyID: "1"}}, nil)
	if err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		return nil, err
	}
	one := &issuer{url: "http://" + listener.Addr().String(), signer: signer}
	public := jose.JSONWebKey{Key: key.Public(), KeyID: "1", Algorithm: "RS256", Use: "sig"}
	documents := map[string]any{
		"/.well-known/openid-configuration": map[string]any{
			"issuer": one.url, "jwks_uri": one.url + "/openid/v1/jwks", "response_types_supported": []string{"id_token"},
			"subject_types_supported": []string{"public"}, "id_token_signing_alg_values_supported": []string{"RS256"},
		},
		"/openid/v1/jwks": jose.JSONWebKeySet{Keys: []jose.JSONWebKey{public}},
	}
	go func() {
		_ = http.Serve(listener, http.HandlerFunc(func(writer http.ResponseWriter, request *http.Request) {
			document, ok := documents[request.URL.Path]
			if !ok {
				http.NotFound(writer, request)
				return
			}
			writer.Header().Set("content-type", "application/json")
			_ = json.NewEncoder(writer).Encode(document)
		}))
	}()
	return one, nil
}

// token is a service account's, for one audience.
func (i *issuer) token(account types.NamespacedName, audience string) (string, error) {
	now := time.Now()
	return jwt.Signed(i.signer).Claims(jwt.Claims{
		Issuer: i.url, Subject: subject(account), Audience: jwt.Audience{audience}, IssuedAt: jwt.NewNumericDate(now),
		NotBefore: jwt.NewNumericDate(now), Expiry: jwt.NewNumericDate(now.Add(time.Hour)),
	}).CompactSerialize()
}

// tokens are, by what they are good for: publisher, what a SinkBinding mounts into the pods of those who publish; stranger,
// another service account's of the namespace for the Broker; trigger, a Trigger's for its dead-letter sink.
func (i *issuer) tokens(objects []object, one *eventingv1.Broker, triggers []*eventingv1.Trigger) (map[string]string, error) {
	made := map[string]string{}
	var err, failed error
	for _, each := range objects {
		if binding, ok := each.decoded.(*sourcesv1.SinkBinding); ok {
			made["publisher"], err = i.token(bindingAccount(binding), brokerAudience(one))
		}
	}
	made["stranger"], failed = i.token(types.NamespacedName{Namespace: one.Namespace, Name: "default"}, brokerAudience(one))
	for _, trigger := range triggers[:1] {
		audience := trigger.Spec.Delivery.DeadLetterSink.Audience
		if audience == nil {
			return nil, fmt.Errorf("Trigger %s names no audience of its dead-letter sink", trigger.Name)
		}
		var also error
		made["trigger"], also = i.token(triggerAccount(trigger), *audience)
		failed = errors.Join(failed, also)
	}
	return made, errors.Join(err, failed)
}

// answerTokenRequests makes the fake client set sign what Knative asks the API server for.
func (i *issuer) answerTokenRequests(ctx context.Context) {
	kubeclient.Get(ctx).PrependReactor("create", "serviceaccounts", func(action clienttesting.Action) (bool, runtime.Object, error) {
		create, ok := action.(clienttesting.CreateActionImpl)
		if !ok || create.Subresource != "token" {
			return false, nil, nil
		}
		request := create.GetObject().(*authv1.TokenRequest)
		text, err := i.token(types.NamespacedName{Namespace: create.Namespace, Name: create.Name}, request.Spec.Audiences[0])
		request.Status = authv1.TokenRequestStatus{Token: text, ExpirationTimestamp: metav1.NewTime(time.Now().Add(time.Hour))}
		return true, request, err
	})
}

func subject(account types.NamespacedName) string {
	return fmt.Sprintf("system:serviceaccount:%s:%s", account.Namespace, account.Name)
}

// account is the service account by which Knative sends for an object.
func account(kind schema.GroupVersionKind, namespace, name string) types.NamespacedName {
	meta := metav1.ObjectMeta{Namespace: namespace, Name: name}
	return types.NamespacedName{Namespace: namespace, Name: auth.GetOIDCServiceAccountNameForResource(kind, meta)}
}

func triggerAccount(trigger *eventingv1.Trigger) types.NamespacedName {
	return account(eventingv1.SchemeGroupVersion.WithKind("Trigger"), trigger.Namespace, trigger.Name)
}

func subscriptionAccount(subscription *messagingv1.Subscription) types.NamespacedName {
	return account(messagingv1.SchemeGroupVersion.WithKind("Subscription"), subscription.Namespace, subscription.Name)
}

func bindingAccount(binding *sourcesv1.SinkBinding) types.NamespacedName {
	return account(sourcesv1.SchemeGroupVersion.WithKind("SinkBinding"), binding.Namespace, binding.Name)
}

func brokerAudience(one *eventingv1.Broker) string {
	return auth.GetAudienceDirect(eventingv1.SchemeGroupVersion.WithKind("Broker"), one.Namespace, one.Name)
}

// resolvePolicy puts into an EventPolicy's status whom its spec means, as its reconciler does.
func resolvePolicy(policy *eventingv1alpha1.EventPolicy) {
	for _, from := range policy.Spec.From {
		if from.Sub != nil {
			policy.Status.From = append(policy.Status.From, *from.Sub)
			continue
		}
		kind := schema.FromAPIVersionAndKind(from.Ref.APIVersion, from.Ref.Kind)
		policy.Status.From = append(policy.Status.From, subject(account(kind, from.Ref.Namespace, from.Ref.Name)))
	}
}

// senders is a rule of this project: with EVENTS_OIDC_AUDIENCE set, a Trigger that names another audience, or none, or whose
// identity the functions do not take, has every event of it refused.
func senders(objects []object) []error {
	var wanted map[string]string
	for _, one := range objects {
		if config, ok := one.decoded.(*corev1.ConfigMap); ok && config.Name == settings {
			wanted = config.Data
		}
	}
	audience := wanted["EVENTS_OIDC_AUDIENCE"]
	if audience == "" {
		return nil
	}
	var found []error
	for _, one := range objects {
		if broker, ok := one.decoded.(*eventingv1.Broker); ok && broker.Spec.Delivery != nil && broker.Spec.Delivery.DeadLetterSink != nil {
			if named := broker.Spec.Delivery.DeadLetterSink.Audience; named == nil || *named != audience {
				found = append(found, fmt.Errorf("Broker %s does not name the audience of its dead-letter sink: every letter is refused", broker.Name))
			}
		}
		trigger, ok := one.decoded.(*eventingv1.Trigger)
		if !ok {
			continue
		}
		given := map[string]*string{"subscriber": trigger.Spec.Subscriber.Audience}
		if trigger.Spec.Delivery != nil && trigger.Spec.Delivery.DeadLetterSink != nil {
			given["dead-letter sink"] = trigger.Spec.Delivery.DeadLetterSink.Audience
		}
		for what, named := range given {
			if named == nil || *named != audience {
				found = append(found, fmt.Errorf("Trigger %s does not name the audience of its %s: every event is refused", trigger.Name, what))
			}
		}
		if sender := subject(triggerAccount(trigger)); !covered(sender, strings.Split(wanted["EVENTS_OIDC_SUBJECTS"], ",")) {
			found = append(found, fmt.Errorf("Trigger %s sends as %s, which EVENTS_OIDC_SUBJECTS does not name", trigger.Name, sender))
		}
	}
	return found
}

func covered(sender string, patterns []string) bool {
	for _, one := range patterns {
		if prefix, open := strings.CutSuffix(one, "*"); sender == one || open && strings.HasPrefix(sender, prefix) {
			return true
		}
	}
	return false
}
