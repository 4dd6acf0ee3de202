package main

import (
	"context"
	"encoding/json"
	"net/http"
	"sync/atomic"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
)

// put changes a secret and returns its version, as the SDK's clients do it.
func put(ctx context.Context, client *azcore.Client, url, value string) (version int64, err error) {
	req, err := runtime.NewRequest(ctx, http.MethodPut, url)
	if err != nil {
		return 0, err
	}
	if err = runtime.MarshalAsJSON(req, map[string]string{"value": value}); err != nil {
		return 0, err
	}
	resp, err := client.Pipeline().Do(req)
	if err != nil {
		return 0, err
	}
	if !runtime.HasStatusCode(resp, http.StatusOK) {
		return 0, runtime.NewResponseError(resp)
	}
	var answer struct{ Version int64 }
	err = runtime.UnmarshalAsJSON(resp, &answer) // it closes the body
	return answer.Version, err
}

// vault is the API. It counts the versions of a secret.
type vault struct{ version atomic.Int64 }

func (v *vault) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var body struct{ Value string }
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil || r.Method != http.MethodPut || body.Value == "" {
		http.Error(w, "want PUT with a value", http.StatusBadRequest)
		return
	}
	_ = json.NewEncoder(w).Encode(map[string]int64{"version": v.version.Add(1)}) // or the caller has gone
}

// refuse is how Azure refuses a token.
func refuse(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("WWW-Authenticate", `Bearer authorization_uri="https://login.example/tenant", error="invalid_token", error_description="The access token is invalid"`)
	http.Error(w, `{"error": {"code": "Unauthorized"}}`, http.StatusUnauthorized)
}
