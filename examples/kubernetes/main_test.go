package main

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	watchtools "k8s.io/client-go/tools/watch"

	"example.com/authtrip"
	"example.com/authtrip/authtriptest"
	"example.com/authtrip/examples/internal/scene"
)

func TestRun(t *testing.T) {
	t.Parallel()
	out := scene.Check(t, run,
		"just logged in 1 0 0", "token revoked 2 1 1", "token expired 1 0 1",
		"just logged in 1 0 0", "token revoked 2 1 1", "token expired 1 0 1")
	for _, want := range []string{"created mill-1\n", "created mill-2\n", "created mill-3\n"} {
		if !strings.Contains(out, want) {
			t.Errorf("there is no %q in\n%s", want, out)
		}
	}
	if n := strings.Count(out, "ADDED mill-1\n"); n != 3 {
		t.Errorf("%d events, want 3:\n%s", n, out)
	}
}

// start returns a cluster, its scene, and what calls it with config.
func start(t *testing.T, change func(*rest.Config)) (*cluster, *scene.Scene, corev1client.ConfigMapInterface) {
	t.Helper()
	c := new(cluster)
	s := scene.Start(scene.API{Handler: c, Refuse: refuse, TLS: true})
	src := &authtrip.Source{Refresher: authtrip.RefreshToken(s.Config), Initial: s.Login}
	t.Cleanup(func() { s.End(src) })
	config := configOf(s)
	config.BearerToken, config.Username, config.Password = "stale", "ada", "secret" // wrap takes them out
	config = wrap(config, src)
	change(config)
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	return c, s, client.CoreV1().ConfigMaps(namespace)
}

// TestReplayIsNotLimited: one request is allowed for months, and it is sent twice.
func TestReplayIsNotLimited(t *testing.T) {
	t.Parallel()
	_, s, maps := start(t, func(c *rest.Config) { c.QPS, c.Burst = 1e-7, 1 })
	s.RevokeToken()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := create(ctx, io.Discard, maps, strings.Repeat("x", 1<<20)); err != nil {
		t.Error(err)
	}
	if err := create(ctx, io.Discard, maps, "50"); err == nil {
		t.Error("there is no limit")
	}
}

func TestOwnCredentialsStay(t *testing.T) {
	t.Parallel()
	_, _, maps := start(t, func(c *rest.Config) { c.BearerToken = "stale" })
	if err := create(t.Context(), io.Discard, maps, "50"); !apierrors.IsUnauthorized(err) {
		t.Errorf("Create() = %v, want that the token is refused", err)
	}
}

func TestLoginThatHasEnded(t *testing.T) {
	t.Parallel()
	src := new(authtriptest.Source)
	src.SetError(authtrip.ErrReauthRequired)
	config := &rest.Config{Host: "http://127.0.0.1:1"}
	config.Wrap(func(base http.RoundTripper) http.RoundTripper {
		return &authtrip.Transport{Source: src, Base: base}
	})
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	if err := create(t.Context(), io.Discard, client.CoreV1().ConfigMaps(namespace), "50"); !errors.Is(err, authtrip.ErrReauthRequired) {
		t.Errorf("Create() = %v, want %v", err, authtrip.ErrReauthRequired)
	}
	if n := src.Counts().Calls; n != 1 {
		t.Errorf("the token was asked for %d times, want 1", n)
	}
}

// TestWatchOutlivesItsToken, and is opened again with another one by a RetryWatcher,
// which would end at a 401.
func TestWatchOutlivesItsToken(t *testing.T) {
	t.Parallel()
	c, s, maps := start(t, func(*rest.Config) {})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := create(ctx, io.Discard, maps, "50"); err != nil {
		t.Fatal(err)
	}
	opened := make(chan struct{}, 10) // more than there are watches
	w, err := watchtools.NewRetryWatcherWithContext(ctx, "1", &cache.ListWatch{
		WatchFuncWithContext: func(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
			defer func() { opened <- struct{}{} }()
			return maps.Watch(ctx, options)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	want := func(name string) {
		t.Helper()
		if e := <-w.ResultChan(); e.Type != watch.Added || nameOf(e) != name {
			t.Fatalf("event %v of %q, want the one that %s was added", e.Type, nameOf(e), name)
		}
	}
	<-opened
	s.RevokeToken()
	c.add(new(corev1.ConfigMap))
	want("2")
	s.Server.CloseClientConnections()
	<-opened
	c.add(new(corev1.ConfigMap))
	want("3")
}

func TestIDTokens(t *testing.T) {
	t.Parallel()
	srv := new(authtriptest.Server)
	site := authtriptest.Start(t, srv)
	initial, err := idToken(srv.Issue("ada"))
	if err != nil {
		t.Fatal(err)
	}
	src := &authtrip.Source{Refresher: idTokens(authtrip.RefreshToken(srv.Config(site.URL))), Initial: initial}
	defer src.Close()
	seen := make(map[string]bool)
	for range 2 { // the initial one and its successor
		tok, err := src.TokenContext(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if seen[tok.AccessToken] || tok.AccessToken != tok.Extra("id_token") {
			t.Error("this is not a new ID token")
		}
		seen[tok.AccessToken] = true
		src.Invalidate(tok)
	}
	srv.FailAlways(authtriptest.TokenPath, authtriptest.Fault{JSON: map[string]any{"id_token": nil}})
	old, err := src.TokenContext(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	tok, err := idTokens(authtrip.RefreshToken(srv.Config(site.URL))).Refresh(t.Context(), old)
	if err != nil || tok.AccessToken != old.AccessToken {
		t.Errorf("Refresh() without an ID token: %v, want the old one", err)
	}
}
