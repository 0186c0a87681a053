// Starts Swagger UI. In a file of its own, so that the page needs no inline script and can forbid them.
window.addEventListener("DOMContentLoaded", () => {
  SwaggerUIBundle({
    url: "openapi.json",
    dom_id: "#swagger-ui",
    deepLinking: true,
    docExpansion: "list",
    defaultModelsExpandDepth: 0,
    displayRequestDuration: true,
    // Otherwise the page would ask another host whether the document is valid.
    validatorUrl: null,
  });
});
