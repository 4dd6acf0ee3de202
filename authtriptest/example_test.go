package authtriptest_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/oauth2"

	"example.com/authtrip"
	"example.com/authtrip/authtriptest"
)

// A server answers x/oauth2 like any authorization server. In a test, Start and
// NewNetwork close by themselves what is closed by hand here.
func ExampleServer() {
	srv := &authtriptest.Server{Rotate: true}
	var network authtriptest.Network
	defer network.Close()
	network.Handle("https://auth.example", srv)

	ctx := context.WithValue(context.Background(), oauth2.HTTPClient, &http.Client{Transport: &network})
	tok := srv.Issue("alice")
	tok.Expiry = time.Now() // as if an hour had passed
	client := srv.Config("https://auth.example").Client(ctx, tok)

	resp, err := client.Get("https://auth.example" + authtriptest.APIPath)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer resp.Body.Close()
	fmt.Println(resp.Status, srv.Counts().Grants)
	// Output: 200 OK map[refresh_token:1]
}

// The requests to an endpoint meet the faults in order; the one after the last
// fault is answered as usual.
func ExampleServer_Fail() {
	srv := &authtriptest.Server{}
	srv.Fail(authtriptest.APIPath,
		authtriptest.Fault{Status: 503, Header: http.Header{"Retry-After": {"2"}}},
		authtriptest.Fault{Challenge: authtriptest.InvalidToken},
		authtriptest.Fault{Reset: true},
	)
	var network authtriptest.Network
	defer network.Close()
	network.Handle("https://api.example", srv)

	src := &authtriptest.Source{}
	src.SetToken(srv.Issue("alice"))
	client := &http.Client{Transport: &oauth2.Transport{Source: src, Base: &network}}
	for range 4 {
		resp, err := client.Post("https://api.example"+authtriptest.APIPath, "", nil)
		if err != nil {
			fmt.Println("reset:", errors.Is(err, syscall.ECONNRESET))
			continue
		}
		resp.Body.Close()
		fmt.Printf("%d %q\n", resp.StatusCode, resp.Header.Get("WWW-Authenticate"))
	}
	// Output:
	// 503 ""
	// 401 "Bearer error=\"invalid_token\""
	// reset: true
	// 200 ""
}

// A server that does its work and loses the answer leaves the client with a
// refresh token that is spent.
func ExampleFault_commit() {
	srv := &authtriptest.Server{Rotate: true}
	srv.Fail(authtriptest.TokenPath, authtriptest.Fault{Commit: true, Reset: true})
	var network authtriptest.Network
	defer network.Close()
	network.Handle("https://auth.example", srv)

	ctx := context.WithValue(context.Background(), oauth2.HTTPClient, &http.Client{Transport: &network})
	tok := srv.Issue("alice")
	tok.Expiry = time.Now()
	_, err := srv.Config("https://auth.example").TokenSource(ctx, tok).Token()
	fmt.Println("failed:", err != nil)
	fmt.Println("spent:", !srv.Valid(tok.RefreshToken))
	// Output:
	// failed: true
	// spent: true
}

// A test of a timeout, which takes no time.
func ExampleNetwork() {
	_ = func(t *testing.T) { // func TestTimeout(t *testing.T)
		synctest.Test(t, func(t *testing.T) {
			srv := &authtriptest.Server{}
			srv.Fail(authtriptest.APIPath, authtriptest.Fault{Delay: time.Hour})
			network := authtriptest.NewNetwork(t)
			network.Handle("https://api.example", srv)

			client := &http.Client{Transport: network, Timeout: time.Minute}
			began := time.Now()
			if resp, err := client.Get("https://api.example" + authtriptest.APIPath); err == nil {
				resp.Body.Close()
				t.Error("the timeout did not end the request")
			}
			if got := time.Since(began); got != time.Minute {
				t.Errorf("the request took %v, want 1m", got)
			}
		})
	}
}

// Two hosts for which there are two handlers.
func ExampleNetwork_Handle() {
	network := &authtriptest.Network{HTTP2: true}
	defer network.Close()
	for _, origin := range []string{"https://api.example", "http://127.0.0.1:8080"} {
		network.Handle(origin, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Answered-By", origin)
		}))
	}
	client := &http.Client{Transport: network}
	for _, url := range []string{"https://api.example/books", "http://127.0.0.1:8080/"} {
		resp, err := client.Get(url)
		if err != nil {
			fmt.Println(err)
			return
		}
		resp.Body.Close()
		fmt.Println(resp.Proto, resp.Header.Get("Answered-By"))
	}
	// Output:
	// HTTP/2.0 https://api.example
	// HTTP/2.0 http://127.0.0.1:8080
}

func ExampleSource() {
	var src authtriptest.Source
	tok, _ := src.Token()
	fmt.Println(tok.AccessToken)
	src.Invalidate(tok)
	tok, _ = src.Token()
	fmt.Println(tok.AccessToken)
	src.SetError(errors.New("the identity provider is away"))
	_, err := src.Token()
	fmt.Println(err)
	// Output:
	// token-1
	// token-2
	// the identity provider is away
}

// The test function of a package that has a store of its own.
func ExampleTestStore() {
	_ = func(t *testing.T) { // func TestStore(t *testing.T)
		authtriptest.TestStore(t, func(*testing.T) authtrip.Store {
			return new(authtrip.MemoryStore)
		})
	}
}

// The test function of a package that has a cache of its own, which keeps time
// elsewhere.
func ExampleTestCache() {
	_ = func(t *testing.T) { // func TestCache(t *testing.T)
		authtriptest.TestCache(t, func(*testing.T) authtrip.Cache {
			return new(authtrip.MemoryCache)
		}, time.Sleep)
	}
}
