package authtrip_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"example.com/authtrip/authtriptest"
)

func TestRefreshAsksForNoScope(t *testing.T) {
	srv := rotating(time.Hour)
	srv.OnRequest = func(req *http.Request) {
		if req.PostForm.Has("scope") {
			t.Errorf("a refresh asks for the scope %q", req.PostForm.Get("scope"))
		}
	}
	inBubble(t, srv, nil, func(t *testing.T, r *rig) {
		expire(r)
		r.mustGet(t)
		r.wantTokenRequests(t, 1)
	})
}

func TestTokenIsInTheHeaderAndNowhereElse(t *testing.T) {
	inBubble(t, rotating(time.Hour), nil, func(t *testing.T, r *rig) {
		resp, err := r.client.Get(apiURL + "?q=1")
		if err != nil {
			t.Fatal(err)
		}
		echo := authtriptest.ReadEcho(t, resp)
		if got := echo.Header.Values("Authorization"); len(got) != 1 || !strings.HasPrefix(got[0], "Bearer ") {
			t.Errorf("Authorization headers = %d, want one with Bearer", len(got))
		}
		if !strings.HasSuffix(echo.URI, "?q=1") || echo.Length != 0 {
			t.Errorf("URI = %s with %d bytes, want it as it was", echo.URI, echo.Length)
		}
	})
}

func TestTokenRequestsAreNotCached(t *testing.T) {
	srv := rotating(time.Hour)
	var got string
	srv.OnRequest = func(req *http.Request) {
		if req.URL.Path == authtriptest.TokenPath {
			got = req.Header.Get("Cache-Control")
		}
	}
	inBubble(t, srv, nil, func(t *testing.T, r *rig) {
		expire(r)
		r.mustGet(t)
		if got != "no-store" {
			t.Errorf("Cache-Control of the token request = %q, want no-store", got)
		}
	})
}

func TestDPoPTokenIsNotSentAsBearer(t *testing.T) {
	inBubble(t, rotating(time.Hour), nil, func(t *testing.T, r *rig) {
		expire(r)
		r.srv.Fail(authtriptest.TokenPath, authtriptest.Fault{JSON: map[string]any{"token_type": "DPoP"}})
		if _, err := r.get(t.Context()); err == nil || !strings.Contains(err.Error(), `"DPoP"`) {
			t.Errorf("error = %v, want one that names the type", err)
		}
		if got := r.srv.Counts().API; got != 0 {
			t.Errorf("API requests = %d, want 0", got)
		}
	})
}

// TestClientSecretIsFormEncodedForBasic is rule 18, with the characters that a
// naive client gets wrong.
func TestClientSecretIsFormEncodedForBasic(t *testing.T) {
	srv := &authtriptest.Server{ClientID: "c:l/i ent", ClientSecret: "s:e%c+r et&", Lifetime: time.Hour}
	inBubble(t, srv, nil, func(t *testing.T, r *rig) {
		expire(r)
		r.mustGet(t)
	})
}
