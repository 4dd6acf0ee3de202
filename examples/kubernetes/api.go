package main

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes/scheme"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"

	"example.com/authtrip/examples/internal/scene"
)

const namespace = "engines"

// configOf stands for clientcmd.BuildConfigFromFlags.
func configOf(s *scene.Scene) *rest.Config {
	cert := &pem.Block{Type: "CERTIFICATE", Bytes: s.Server.Certificate().Raw}
	return &rest.Config{
		Host:            s.URL,
		TLSClientConfig: rest.TLSClientConfig{CAData: pem.EncodeToMemory(cert)},
	}
}

// create sends an object.
func create(ctx context.Context, w io.Writer, maps corev1client.ConfigMapInterface, columns string) error {
	m, err := maps.Create(ctx, &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "mill-"},
		Data:       map[string]string{"columns": columns},
	}, metav1.CreateOptions{})
	if err == nil {
		fmt.Fprintln(w, "created", m.Name)
	}
	return err
}

// first opens a watch and waits for one event.
func first(ctx context.Context, w io.Writer, maps corev1client.ConfigMapInterface) error {
	events, err := maps.Watch(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	defer events.Stop()
	select {
	case e := <-events.ResultChan():
		fmt.Fprintln(w, e.Type, nameOf(e))
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func nameOf(e watch.Event) string {
	if m, ok := e.Object.(*corev1.ConfigMap); ok {
		return m.Name
	}
	return ""
}

// A cluster is the API: the config maps of one namespace.
type cluster struct {
	mu   sync.Mutex
	maps []*corev1.ConfigMap // guarded by mu
	news chan struct{}       // guarded by mu; closed when there is another one
}

func (c *cluster) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.URL.Path != "/api/v1/namespaces/"+namespace+"/configmaps":
		http.NotFound(w, r)
	case r.Method == http.MethodPost:
		m := read(r)
		if m == nil {
			http.Error(w, "want a config map with data", http.StatusBadRequest)
			return
		}
		c.add(m)
		answer(w, http.StatusCreated, m)
	case r.Method == http.MethodGet && r.URL.Query().Has("watch"):
		c.watch(w, r)
	default:
		http.Error(w, "want POST or a watch", http.StatusMethodNotAllowed)
	}
}

// read decodes what client-go sends, which is Protobuf unless it is told otherwise.
func read(r *http.Request) *corev1.ConfigMap {
	b, err := io.ReadAll(r.Body)
	if err != nil {
		return nil
	}
	object, _, err := scheme.Codecs.UniversalDeserializer().Decode(b, nil, nil)
	if m, ok := object.(*corev1.ConfigMap); err == nil && ok && len(m.Data) > 0 {
		return m
	}
	return nil
}

func (c *cluster) add(m *corev1.ConfigMap) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := strconv.Itoa(len(c.maps) + 1)
	m.TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"}
	m.Name, m.Namespace, m.ResourceVersion = m.GenerateName+n, namespace, n
	c.maps = append(c.maps, m)
	if c.news != nil {
		close(c.news)
		c.news = nil
	}
}

// after returns the config maps after the first n, and a channel that is closed
// when there is another one.
func (c *cluster) after(n int) ([]*corev1.ConfigMap, <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.news == nil {
		c.news = make(chan struct{})
	}
	return c.maps[min(n, len(c.maps)):], c.news
}

// watch sends an event for each config map, until the client has gone.
func (c *cluster) watch(w http.ResponseWriter, r *http.Request) {
	n, _ := strconv.Atoi(r.URL.Query().Get("resourceVersion")) // 0 if there is none
	w.Header().Set("Content-Type", "application/json")
	for {
		maps, news := c.after(n)
		n += len(maps)
		for _, m := range maps {
			_ = json.NewEncoder(w).Encode(map[string]any{"type": watch.Added, "object": m}) // or the client has gone
		}
		_ = http.NewResponseController(w).Flush()
		select {
		case <-news:
		case <-r.Context().Done():
			return
		}
	}
}

// refuse is how an API server refuses a token.
func refuse(w http.ResponseWriter, _ *http.Request) {
	answer(w, http.StatusUnauthorized, metav1.Status{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"},
		Status:   metav1.StatusFailure,
		Message:  "Unauthorized",
		Reason:   metav1.StatusReasonUnauthorized,
		Code:     http.StatusUnauthorized,
	})
}

func answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // or the caller has gone
}
