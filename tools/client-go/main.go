// Program client-go uses an API server as controllers written in Go do: typed and dynamic clients, informers, watches,
// server-side apply, conflicts, paged lists, deletion with preconditions. It ends with status 1 at the first surprise.
package main

import (
	"context"
	"fmt"
	"os"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	applycorev1 "k8s.io/client-go/applyconfigurations/core/v1"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/dynamic/dynamicinformer"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/pager"
	"k8s.io/client-go/util/retry"

	"k8s.io/apimachinery/pkg/runtime"
)

const (
	namespace = "default"
	patience  = 60 * time.Second
)

var sandboxes = schema.GroupVersionResource{Group: "agents.x-k8s.io", Version: "v1beta1", Resource: "sandboxes"}

type check struct {
	name string
	run  func(context.Context, *kubernetes.Clientset, *dynamic.DynamicClient) error
}

func main() {
	config, err := clientcmd.BuildConfigFromFlags("", os.Getenv("KUBECONFIG"))
	if err != nil {
		fail("kubeconfig", err)
	}
	typed, dynamicClient := kubernetes.NewForConfigOrDie(config), dynamic.NewForConfigOrDie(config)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for _, check := range []check{
		{"discovery", discovered}, {"informer", informed}, {"dynamic informer", informedOfSandboxes},
		{"apply", applied}, {"conflict", conflicting}, {"pages", paged}, {"deletion", deleted},
	} {
		if err := check.run(ctx, typed, dynamicClient); err != nil {
			fail(check.name, err)
		}
		fmt.Println("ok", check.name)
	}
}

func fail(name string, err error) {
	fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
	os.Exit(1)
}

func discovered(_ context.Context, typed *kubernetes.Clientset, _ *dynamic.DynamicClient) error {
	_, lists, err := typed.Discovery().ServerGroupsAndResources()
	if err != nil {
		return err
	}
	matching := discovery.FilteredBy(discovery.SupportsAllVerbs{Verbs: []string{"list", "watch", "patch"}}, lists)
	kinds, err := discovery.GroupVersionResources(matching)
	if err != nil {
		return err
	}
	if _, found := kinds[sandboxes]; !found {
		return fmt.Errorf("no %v among %v", sandboxes, kinds)
	}
	return nil
}

func configMap(name, value string) *corev1.ConfigMap {
	return &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"from": "client-go"}},
		Data:       map[string]string{"value": value},
	}
}

// informed has an informer see an object come, change and go, each once.
func informed(ctx context.Context, typed *kubernetes.Clientset, _ *dynamic.DynamicClient) error {
	seen := make(chan string, 100)
	factory := informers.NewSharedInformerFactoryWithOptions(typed, 0, informers.WithNamespace(namespace),
		informers.WithTweakListOptions(func(options *metav1.ListOptions) { options.LabelSelector = "from=client-go" }))
	informer := factory.Core().V1().ConfigMaps().Informer()
	if _, err := informer.AddEventHandler(handlers(seen)); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	factory.Start(ctx.Done())
	if !cache.WaitForCacheSync(ctx.Done(), informer.HasSynced) {
		return fmt.Errorf("the informer never had its first list")
	}
	maps := typed.CoreV1().ConfigMaps(namespace)
	made, err := maps.Create(ctx, configMap("informed", "1"), metav1.CreateOptions{})
	if err != nil {
		return err
	}
	made.Data["value"] = "2"
	if _, err := maps.Update(ctx, made, metav1.UpdateOptions{}); err != nil {
		return err
	}
	if err := maps.Delete(ctx, "informed", metav1.DeleteOptions{}); err != nil {
		return err
	}
	return expect(ctx, seen, "added informed", "changed informed", "gone informed")
}

func informedOfSandboxes(ctx context.Context, _ *kubernetes.Clientset, client *dynamic.DynamicClient) error {
	seen := make(chan string, 100)
	factory := dynamicinformer.NewFilteredDynamicSharedInformerFactory(client, 0, namespace, func(options *metav1.ListOptions) {
		options.LabelSelector = "from=client-go"
	})
	informer := factory.ForResource(sandboxes).Informer()
	if _, err := informer.AddEventHandler(handlers(seen)); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	factory.Start(ctx.Done())
	if !cache.WaitForCacheSync(ctx.Done(), informer.HasSynced) {
		return fmt.Errorf("the informer never had its first list")
	}
	objects := client.Resource(sandboxes).Namespace(namespace)
	sandbox := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "agents.x-k8s.io/v1beta1", "kind": "Sandbox",
		"metadata": map[string]any{"name": "informed", "labels": map[string]any{"from": "client-go"}},
		"spec": map[string]any{"podTemplate": map[string]any{"spec": map[string]any{
			"containers": []any{map[string]any{"name": "main", "image": "atoll.local/host"}},
		}}},
	}}
	if _, err := objects.Create(ctx, sandbox, metav1.CreateOptions{}); err != nil {
		return err
	}
	if err := objects.Delete(ctx, "informed", metav1.DeleteOptions{}); err != nil {
		return err
	}
	for _, wanted := range []string{"added informed", "gone informed"} {
		if err := until(ctx, seen, wanted); err != nil {
			return err
		}
	}
	return nil
}

func handlers(seen chan<- string) cache.ResourceEventHandlerFuncs {
	name := func(object any) string {
		if unknown, last := object.(cache.DeletedFinalStateUnknown); last {
			object = unknown.Obj
		}
		return object.(metav1.Object).GetName()
	}
	return cache.ResourceEventHandlerFuncs{
		AddFunc:    func(object any) { seen <- "added " + name(object) },
		UpdateFunc: func(_, object any) { seen <- "changed " + name(object) },
		DeleteFunc: func(object any) { seen <- "gone " + name(object) },
	}
}

func expect(ctx context.Context, seen <-chan string, wanted ...string) error {
	for _, next := range wanted {
		select {
		case found := <-seen:
			if found != next {
				return fmt.Errorf("%q, not %q", found, next)
			}
		case <-ctx.Done():
			return fmt.Errorf("never %q", next)
		}
	}
	return nil
}

func until(ctx context.Context, seen <-chan string, wanted string) error {
	for {
		select {
		case found := <-seen:
			if found == wanted {
				return nil
			}
		case <-ctx.Done():
			return fmt.Errorf("never %q", wanted)
		}
	}
}

// applied has two managers meet over a field.
func applied(ctx context.Context, typed *kubernetes.Clientset, _ *dynamic.DynamicClient) error {
	maps := typed.CoreV1().ConfigMaps(namespace)
	want := func(value string) *applycorev1.ConfigMapApplyConfiguration {
		return applycorev1.ConfigMap("applied", namespace).WithData(map[string]string{"value": value})
	}
	if _, err := maps.Apply(ctx, want("1"), metav1.ApplyOptions{FieldManager: "one"}); err != nil {
		return err
	}
	_, err := maps.Apply(ctx, want("2"), metav1.ApplyOptions{FieldManager: "two"})
	if !apierrors.IsConflict(err) {
		return fmt.Errorf("no conflict: %v", err)
	}
	forced, err := maps.Apply(ctx, want("2"), metav1.ApplyOptions{FieldManager: "two", Force: true})
	if err != nil {
		return err
	}
	extracted, err := applycorev1.ExtractConfigMap(forced, "two")
	if err != nil {
		return err
	}
	if extracted.Data["value"] != "2" {
		return fmt.Errorf("the second manager owns %v", extracted.Data)
	}
	return maps.Delete(ctx, "applied", metav1.DeleteOptions{})
}

// conflicting has an update of an old version refused, and done again on the new one.
func conflicting(ctx context.Context, typed *kubernetes.Clientset, _ *dynamic.DynamicClient) error {
	maps := typed.CoreV1().ConfigMaps(namespace)
	first, err := maps.Create(ctx, configMap("conflicting", "1"), metav1.CreateOptions{})
	if err != nil {
		return err
	}
	patch := []byte(`[{"op": "replace", "path": "/data/value", "value": "2"}]`)
	if _, err := maps.Patch(ctx, "conflicting", types.JSONPatchType, patch, metav1.PatchOptions{}); err != nil {
		return err
	}
	first.Data["mine"] = "yes"
	if _, err := maps.Update(ctx, first, metav1.UpdateOptions{}); !apierrors.IsConflict(err) {
		return fmt.Errorf("no conflict: %v", err)
	}
	err = retry.RetryOnConflict(retry.DefaultRetry, func() error {
		current, err := maps.Get(ctx, "conflicting", metav1.GetOptions{})
		if err != nil {
			return err
		}
		current.Data["mine"] = "yes"
		_, err = maps.Update(ctx, current, metav1.UpdateOptions{})
		return err
	})
	if err != nil {
		return err
	}
	return maps.Delete(ctx, "conflicting", metav1.DeleteOptions{})
}

// paged reads a list in pages, and deletes it in one.
func paged(ctx context.Context, typed *kubernetes.Clientset, _ *dynamic.DynamicClient) error {
	maps := typed.CoreV1().ConfigMaps(namespace)
	const count = 25
	for number := range count {
		if _, err := maps.Create(ctx, configMap(fmt.Sprintf("paged-%02d", number), "x"), metav1.CreateOptions{}); err != nil {
			return err
		}
	}
	options := metav1.ListOptions{LabelSelector: "from=client-go", Limit: 10}
	reader := pager.New(pager.SimplePageFunc(func(options metav1.ListOptions) (runtime.Object, error) {
		return maps.List(ctx, options)
	}))
	found := 0
	if err := reader.EachListItem(ctx, options, func(runtime.Object) error { found++; return nil }); err != nil {
		return err
	}
	if found != count {
		return fmt.Errorf("%d of %d in pages", found, count)
	}
	return maps.DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{LabelSelector: "from=client-go"})
}

// deleted has a deletion refused that is meant for another object of the same name.
func deleted(ctx context.Context, typed *kubernetes.Clientset, _ *dynamic.DynamicClient) error {
	maps := typed.CoreV1().ConfigMaps(namespace)
	made, err := maps.Create(ctx, configMap("deleted", "1"), metav1.CreateOptions{})
	if err != nil {
		return err
	}
	other := types.UID("00000000-0000-0000-0000-000000000000")
	err = maps.Delete(ctx, "deleted", metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &other}})
	if !apierrors.IsConflict(err) {
		return fmt.Errorf("no conflict: %v", err)
	}
	if err := maps.Delete(ctx, "deleted", *metav1.NewPreconditionDeleteOptions(string(made.UID))); err != nil {
		return err
	}
	if _, err := maps.Get(ctx, "deleted", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		return fmt.Errorf("still there: %v", err)
	}
	return nil
}
